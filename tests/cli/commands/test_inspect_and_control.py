"""``umbel inspect`` and ``umbel control``, with a worker in this process where one is needed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel_cli.exits import ExitCode


@pytest.fixture
def working(write: Callable[[str, str], Any], monkeypatch, own_folder) -> Iterator[str]:
    """An app whose worker runs here, with one task stuck; returns what to give to -A."""
    write(
        "busy.py",
        """\
import threading
from umbel import Umbel

app = Umbel("busy", broker="sqlite:///busy.db")
gate, begun = threading.Event(), threading.Event()


@app.task(rate_limit="3/m")
def stuck(key):
    begun.set()
    gate.wait(60)
""",
    )
    monkeypatch.syspath_prepend(str(own_folder))
    module = importlib.import_module("busy")
    with module.app.worker(pool="threads", concurrency=1, hostname="w@h"):
        module.stuck.delay("the argument")
        assert module.begun.wait(30)
        yield "busy"
        module.gate.set()


def asked(invoke, *args: str, code: int = 0) -> Any:
    result = invoke("-A", "busy", *args, "-d", "w@h", "-t", "30", "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)["w@h"]


def test_who_is_there(invoke, working):
    result = invoke("-A", working, "inspect", "ping", "-d", "w@h", "-t", "30")

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["node", "answer"],
        ["w@h", "pong"],
    ]


def test_what_runs(invoke, working):
    (row,) = asked(invoke, "inspect", "active")
    assert (row["name"], row["args"]) == ("busy.stuck", "('the argument',)")

    table = invoke("-A", working, "inspect", "active", "-d", "w@h", "-t", "30").stdout
    assert "busy.stuck" in table and "('the argument',)" in table


@pytest.mark.parametrize(
    "method,expected",
    [
        ("reserved", []),
        ("scheduled", []),
        ("revoked", []),
        ("active_queues", [{"name": "celery", "routing_key": "celery"}]),
        ("registered", ["busy.stuck"]),
    ],
)
def test_lists(invoke, working, method, expected):
    assert asked(invoke, "inspect", method) == expected
    result = invoke("-A", working, "inspect", method, "-d", "w@h", "-t", "30")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("node")


def test_tasks_are_listed_with_their_options(invoke, working):
    assert asked(invoke, "inspect", "registered", "rate_limit") == ["busy.stuck [rate_limit=3/m]"]


def test_stats_and_settings(invoke, working):
    assert asked(invoke, "inspect", "stats")["pool"]["implementation"] == "threads"
    assert "task_acks_late" in asked(invoke, "inspect", "conf", "--all")
    for method in ("stats", "conf"):
        assert invoke("-A", working, "inspect", method, "-d", "w@h", "-t", "30").exit_code == 0


def test_delayed_tasks_are_said_to_wait_in_the_broker(invoke, working):
    result = invoke("-A", working, "inspect", "scheduled", "-d", "w@h", "-t", "30")

    assert "umbel queues" in result.stderr


@pytest.mark.parametrize("args", [("inspect", "ping"), ("control", "shutdown")])
def test_exit_code_says_that_nobody_answers(invoke, tasks, args):
    result = invoke("-A", tasks, *args, "-t", "0.05")

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "no worker answered" in result.stderr


def test_exit_code_says_that_one_who_was_asked_does_not_answer(invoke, working):
    result = invoke("-A", working, "inspect", "ping", "-d", "w@h,gone@h", "-t", "1", "--json")

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert json.loads(result.stdout) == {"w@h": {"ok": "pong"}}
    assert "no answer from gone@h" in result.stderr


def test_rate_is_limited_and_remembered(invoke, working):
    answer = asked(invoke, "control", "rate_limit", "busy.stuck", "5/s")

    assert answer == {"ok": "rate limit of busy.stuck is 5/s"}
    assert asked(invoke, "inspect", "stats")["rate_limits"] == {"busy.stuck": 5.0}
    assert asked(invoke, "control", "rate_limit", "busy.stuck", "reset")["ok"]
    assert asked(invoke, "inspect", "stats")["rate_limits"] == {"busy.stuck": 0.05}


def test_error_of_a_worker_is_an_error_here(invoke, working):
    result = invoke(
        "-A", working, "control", "rate_limit", "busy.nope", "5/s", "-d", "w@h", "-t", "30"
    )

    assert result.exit_code == ExitCode.FAILED
    assert "w@h: there is no task 'busy.nope' here" in result.stderr


@pytest.mark.parametrize("args", [("pool_grow",), ("pool_shrink", "2"), ("autoscale", "4", "2")])
def test_worker_without_processes_says_that_its_pool_cannot_change(invoke, working, args):
    answer = asked(invoke, "control", *args, code=ExitCode.FAILED)

    assert f"knows no command '{args[0]}'" in answer["error"]


def test_wrong_rate_is_an_error_before_anybody_is_asked(invoke, tasks):
    result = invoke("-A", tasks, "control", "rate_limit", "tasks.add", "often")

    assert result.exit_code == ExitCode.CONFIG
    assert "'often' is no rate" in result.stderr


@pytest.mark.parametrize("group,near", [("inspect", "ping"), ("control", "shutdown")])
def test_misspelt_command_gets_a_proposal(invoke, tasks, group, near):
    result = invoke("-A", tasks, group, near[:-1])

    assert result.exit_code == ExitCode.USAGE
    assert f"did you mean {near!r}" in result.stderr
