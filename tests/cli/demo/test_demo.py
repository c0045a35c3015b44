from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.states import is_final
from umbel_cli.demo.corpus import source_files
from umbel_cli.demo.runs import RunNotes
from umbel_cli.demo.summary import by_plain_loop

FILES = 40


def test_small_demo_adds_up_with_a_plain_loop(umbel):
    ended = umbel("demo", "--limit", str(FILES), "--processes", "2", "--verify", "--json")

    assert ended.code == 0, ended.stderr
    document = ended.json
    assert document["adds_up"] is True
    assert document["totals"]["files"] == FILES
    assert document["totals"] == by_plain_loop(source_files(limit=FILES))
    assert sum(document["processes"].values()) == FILES
    assert document["failed"] == {}
    assert len(document["most_complex"]) == 10


def test_demo_shows_tables_and_what_to_try_next(umbel):
    ended = umbel("demo", "--limit", "20", "--processes", "1", "--verify")

    assert ended.code == 0, ended.stderr
    assert "The most complex modules" in ended.stdout
    assert "A plain loop over the same files counts the same" in ended.stdout
    assert "20/20 files" in ended.stderr
    assert "What to try next" in ended.stderr


def test_demo_tells_how_to_look_at_what_it_stored_elsewhere(umbel, own_folder):
    elsewhere = f"sqlite:///{own_folder}/elsewhere.db"

    ended = umbel(
        *("demo", "--limit", "10", "--processes", "1"),
        *("--broker", elsewhere, "--result-backend", elsewhere),
    )
    proposed = next(line for line in ended.stderr.splitlines() if " result " in line)

    assert umbel(*shlex.split(proposed)[1:]).code == 0


def test_finished_demo_can_be_run_again(umbel):
    first = umbel("demo", "--limit", "10", "--processes", "1", "--json").json
    second = umbel("demo", "--limit", "10", "--processes", "1", "--json").json

    assert first["run"] != second["run"]
    assert first["totals"] == second["totals"]
    assert second["done_now"] == 10


def test_demo_runs_on_another_broker_and_backend(umbel, own_folder):
    elsewhere = f"sqlite:///{own_folder}/elsewhere.db"

    ended = umbel(
        *("demo", "--limit", "10", "--processes", "1", "--verify", "--json"),
        *("--broker", elsewhere, "--result-backend", elsewhere),
    )

    assert ended.code == 0, ended.stderr
    assert ended.json["done_now"] == 10
    assert (own_folder / "elsewhere.db").exists()
    assert not (own_folder / ".umbel/demo.db").exists()


def test_broker_of_the_demo_may_come_from_the_environment(umbel, own_folder):
    elsewhere = f"sqlite:///{own_folder}/elsewhere.db"

    ended = umbel(
        *("demo", "--limit", "10", "--processes", "1", "--json"),
        env={"UMBEL_BROKER_URL": elsewhere},
    )

    assert ended.json["done_now"] == 10
    with Umbel("watcher", broker=elsewhere) as app:
        assert "demo" in app.broker.queues()


def test_one_result_of_the_demo_can_be_read(umbel):
    umbel("demo", "--limit", "5", "--processes", "1", "-q")
    app = ("-A", "umbel_cli.demo.tasks")
    task_id = umbel(*app, "call", "umbel_cli.demo.tasks.index_file", "ast.py").stdout.strip()
    umbel(*app, "worker", "--pool", "solo", "--burst", "-q")

    ended = umbel(*app, "result", task_id, "--json")

    assert ended.json["result"]["file"] == "ast.py"
    assert ended.json["result"]["functions"] > 10


@pytest.fixture
def half_done(own_folder: Path) -> Callable[[signal.Signals, int], int]:
    """Start a demo over many files, interrupt it when some are done, and wait for its end."""

    def run(how: signal.Signals, files: int) -> int:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "umbel", "demo"),
                *("--limit", str(files), "--processes", "2"),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=own_folder,
            text=True,
        )
        try:
            wait_for_results(own_folder, files, process)
            process.send_signal(how)
            process.wait(60)
        finally:
            if process.poll() is None:
                process.kill()
            process.stderr.close()
        return process.returncode

    return run


def wait_for_results(folder: Path, files: int, process: subprocess.Popen) -> None:
    """Wait until the first tasks of a running demo are done."""
    url = f"sqlite:////{str(folder / '.umbel/demo.db').lstrip('/')}"
    notes, chosen = RunNotes(folder / ".umbel"), source_files(limit=files)
    deadline = time.monotonic() + 60
    with Umbel("watcher", broker=url, backend=url) as app:
        while time.monotonic() < deadline:
            assert process.poll() is None, "the demo ended before it could be stopped"
            run = notes.read()
            if run is not None and (folder / ".umbel/demo.db").exists():
                stored = app.backend.load([run.task_id(file) for file in chosen])
                if any(is_final(result.state) for result in stored.values()):
                    return
            time.sleep(0.02)
    pytest.fail("no task of the demo was done within 60 s")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_stopped_demo_leaves_nothing_running_and_goes_on(umbel, half_done, own_folder, how):
    code = half_done(how, 300)
    assert code == 130
    assert workers_in(own_folder) == []
    run = json.loads((own_folder / ".umbel/demo.json").read_text())["run"]

    ended = umbel("demo", "--limit", "300", "--processes", "2", "--verify", "--json")

    assert ended.code == 0, ended.stderr
    document = ended.json
    assert (document["run"], document["resumed"], document["adds_up"]) == (run, True, True)
    assert document["done_now"] < 300


def test_killed_demo_goes_on(umbel, half_done, own_folder):
    half_done(signal.SIGKILL, 300)

    ended = umbel("demo", "--limit", "300", "--processes", "2", "--verify", "--json")

    assert ended.code == 0, ended.stderr
    assert (ended.json["resumed"], ended.json["adds_up"]) == (True, True)


def workers_in(folder: Path) -> list[str]:
    """Return the command lines of processes that run in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
