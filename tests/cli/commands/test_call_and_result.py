from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from umbel import Umbel


@pytest.fixture
def run_tasks(umbel, tasks):
    """Run all that waits, by a worker process."""

    def run() -> None:
        ended = umbel("-A", tasks, "worker", "--pool", "solo", "--burst", "-q")
        assert ended.code == 0, ended.stderr

    return run


def test_call_prints_the_id_and_result_the_value(umbel, tasks, run_tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()
    run_tasks()

    ended = umbel("-A", tasks, "result", task_id)

    assert (ended.stdout, ended.code) == ("5\n", 0)


@pytest.mark.parametrize(
    "args",
    [
        ("2", "3"),
        ("--args", "[2, 3]"),
        ("-a", "[2]", "-k", '{"y": 3}'),
        ("--kwargs", '{"x": 2, "y": 3}'),
    ],
)
def test_arguments_are_given_in_several_ways(invoke, umbel, tasks, args):
    invoke("-A", tasks, "call", "tasks.add", *args)

    (row,) = json.loads(invoke("-A", tasks, "queues", "peek", "celery", "--json").stdout)
    assert row["task"] == "tasks.add"
    assert "2" in row["args"] + row["kwargs"]
    assert "3" in row["args"] + row["kwargs"]


def test_argument_that_is_no_json_is_text(invoke, tasks):
    invoke("-A", tasks, "call", "tasks.fail", "it's raining")

    (row,) = json.loads(invoke("-A", tasks, "queues", "peek", "celery", "--json").stdout)
    assert "it's raining" in row["args"]


@pytest.mark.parametrize(
    "args, hint",
    [
        (("--args", "2"), "must be like '[1, \"x\"]'"),
        (("--args", "[2"), "isn't JSON"),
        (("--kwargs", "[]"), "must be like"),
        (("--eta", "tomorrow"), "isn't ISO 8601"),
        (("--expires", "soon"), "isn't ISO 8601"),
        (("1", "--args", "[2]"), "not both"),
        (("--priority", "999"), "--priority"),
    ],
)
def test_wrong_values_are_wrong_usage(invoke, tasks, args, hint):
    result = invoke("-A", tasks, "call", "tasks.add", *args)

    assert result.exit_code == 2
    assert hint in result.stderr


def test_options_travel_with_the_task(invoke, tasks):
    invoke(
        *("-A", tasks, "call", "tasks.add", "1", "2", "--queue", "mail", "--priority", "7"),
        *("--eta", "2131-05-06T07:08:09", "--expires", "2132-01-01", "--task-id", "mine"),
    )

    result = invoke("-A", tasks, "queues", "--json")

    mail = next(row for row in json.loads(result.stdout) if row["name"] == "mail")
    assert (mail["ready"], mail["delayed"]) == (0, 1)


def test_task_id_is_the_one_given(invoke, tasks):
    result = invoke("-A", tasks, "call", "tasks.add", "1", "2", "--task-id", "mine", "--json")

    assert json.loads(result.stdout) == {"id": "mine", "task": "tasks.add"}


def test_misspelt_task_is_recognised_and_not_sent(invoke, tasks):
    result = invoke("-A", tasks, "call", "tasks.ad", "1", "2")

    assert result.exit_code == 1
    assert "did you mean 'tasks.add'?" in result.stderr
    assert "nothing waits" in invoke("-A", tasks, "queues", "peek", "celery").stderr


def test_unknown_task_is_sent_when_told_so(invoke, tasks):
    assert invoke("-A", tasks, "call", "elsewhere.task", "--unchecked").exit_code == 0


def test_without_an_app_any_task_is_sent(invoke):
    assert invoke("call", "elsewhere.task", "1").exit_code == 0


def test_arguments_that_do_not_fit_are_refused(invoke, tasks):
    result = invoke("-A", tasks, "call", "tasks.add", "1")

    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "y" in result.stderr


def test_call_waits_for_a_running_worker(umbel, running, tasks):
    running("-A", tasks, "worker", "--pool", "solo")

    ended = umbel("-A", tasks, "call", "tasks.add", "2", "3", "--wait", "--timeout", "60")

    assert (ended.stdout, ended.code) == ("5\n", 0)


def test_call_that_waits_ends_with_ctrl_c(running, tasks):
    waiting = running("-A", tasks, "--traceback", "call", "tasks.add", "2", "3", "--wait")
    wait_until_sent(Path(".umbel/umbel.db"))

    waiting.send_signal(signal.SIGINT)

    assert waiting.wait(60) == 130


def wait_until_sent(database: Path) -> None:
    """Wait until the task is in its queue: from then on the command waits for its result."""
    deadline = time.monotonic() + 60
    with Umbel("watcher") as app:
        while time.monotonic() < deadline:
            if database.exists() and app.broker.stats("celery").ready:
                return
            time.sleep(0.02)
    pytest.fail("the task wasn't sent within 60 s")


def test_result_waits_if_told_so(umbel, tasks):
    task_id = umbel("-A", tasks, "call", "tasks.add", "2", "3").stdout.strip()
    umbel("-A", tasks, "worker", "--pool", "solo", "--burst", "-q")

    ended = umbel("-A", tasks, "result", task_id, "--wait", "--timeout", "30", "--json")

    document = ended.json
    assert (document["id"], document["state"], document["result"]) == (task_id, "SUCCESS", 5)


def test_no_result_yet_has_a_code_of_its_own(invoke, tasks):
    result = invoke("-A", tasks, "result", "no-such-task")

    assert (result.stdout, result.exit_code) == ("", 75)
    assert "no-such-task is PENDING" in result.stderr


def test_waiting_ends_with_its_time(invoke, tasks):
    result = invoke("-A", tasks, "call", "tasks.add", "2", "3", "--timeout", "0.05")

    assert result.exit_code == 75


def test_failed_task_fails_the_command(umbel, tasks, run_tasks):
    task_id = umbel("-A", tasks, "call", "tasks.fail", "no milk").stdout.strip()
    run_tasks()

    plain = umbel("-A", tasks, "result", task_id)
    long = umbel("-A", tasks, "result", task_id, "--traceback")
    document = umbel("-A", tasks, "result", task_id, "--json")

    assert (plain.stdout, plain.stderr, plain.code) == ("", "FAILURE: ValueError: no milk\n", 1)
    assert "Traceback" in long.stderr
    assert (document.json["state"], document.json["error"]) == ("FAILURE", "ValueError: no milk")
    assert document.code == 1


def test_call_of_an_id_that_was_sent_already_fails_and_names_it(invoke, tasks):
    invoke("-A", tasks, "call", "tasks.add", "2", "3", "--task-id", "mine")

    ended = invoke("-A", tasks, "call", "tasks.add", "4", "5", "--task-id", "mine")

    assert ended.exit_code != 0
    assert "mine" in ended.stderr
    assert len(json.loads(invoke("-A", tasks, "queues", "peek", "celery", "--json").stdout)) == 1


@pytest.mark.parametrize("on_conflict, args", [("return", "(2, 3)"), ("replace", "(4, 5)")])
def test_call_of_an_id_that_was_sent_already_does_as_it_is_told(invoke, tasks, on_conflict, args):
    invoke("-A", tasks, "call", "tasks.add", "2", "3", "--task-id", "mine")

    ended = invoke(
        "-A", tasks, "call", "tasks.add", "4", "5",
        "--task-id", "mine", "--on-conflict", on_conflict,
    )  # fmt: skip

    (row,) = json.loads(invoke("-A", tasks, "queues", "peek", "celery", "--json").stdout)
    assert (ended.exit_code, ended.stdout) == (0, "mine\n")
    assert row["args"] == args
