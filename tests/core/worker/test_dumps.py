"""USR1 shows what a worker is doing, and does nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project, wait_for

from umbel.worker.dumps import Dumper, Run
from umbel.worker.heeding import leave_signals_to_supervisor
from umbel.worker.limits import Interruptible

EXTRA = """
import ctypes


@app.task
def hold_the_interpreter(key, seconds):
    note("begin", key)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # lets nobody else run meanwhile
    return "held"


@app.task
async def with_children(key):
    note("begin", key)
    async with asyncio.TaskGroup() as group:
        group.create_task(a_child(), name="a-child")
    return "both"


async def a_child():
    await asyncio.sleep(1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA)
    yield made
    made.close()


# -- real workers -----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal of POSIX")
@pytest.mark.parametrize("options", [("-c", "2"), ("--pool", "solo")], ids=" ".join)
def test_a_dump_shows_what_is_run_and_harms_no_process_that_is_asked_for_it(
    project: Project, options: tuple[str, ...]
) -> None:
    worker = project.worker(*options)
    result = project.app.send_task("tasks.work", ("long", 1.0))
    wait_for(lambda: project.ledger("begin")["long"])

    os.killpg(worker.process.pid, signal.SIGUSR1)  # its children too, whom the supervisor asks
    ends = ("worker@", "child 0", "child 1") if "solo" not in options else ("worker@",)
    wait_for(lambda: all(f"end of the stacks of {end}" in worker.log for end in ends))

    assert f"slot 0 runs tasks.work[{result.id}]" in worker.log
    assert "time.sleep(seconds)" in worker.log
    assert result.get(timeout=30) == "long"
    assert worker.stop() == 0
    assert project.ledger("begin") == project.ledger("end") == {"long": 1}


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal of POSIX")
@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_a_dump_shows_coroutines_and_their_children(project: Project, pool: str) -> None:
    worker = project.worker("--pool", pool, "-c", "2")
    result = project.app.send_task("tasks.with_children", ("k",))
    wait_for(lambda: project.ledger("begin")["k"])

    os.kill(worker.process.pid, signal.SIGUSR1)
    wait_for(lambda: "end of the stacks of child 0" in worker.log)

    assert f"runs tasks.with_children[{result.id}]" in worker.log
    assert "async with asyncio.TaskGroup() as group:" in worker.log
    assert "--- asyncio a-child" in worker.log
    assert "await asyncio.sleep(1)" in worker.log
    assert result.get(timeout=30) == "both"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_cannot_run_its_own_dump_is_dumped_all_the_same(
    project: Project,
) -> None:
    worker = project.worker("-c", "1")
    result = project.app.send_task("tasks.hold_the_interpreter", ("k", 20))
    wait_for(lambda: project.ledger("begin")["k"])

    os.kill(worker.process.pid, signal.SIGUSR1)

    wait_for(lambda: "in hold_the_interpreter" in worker.log, describe=worker.tell)
    assert "Current thread" in worker.log
    assert result.get(timeout=30) == "held"  # the signal ended the call early, and nothing else


# -- in this process --------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path: Path) -> Callable[..., str]:
    """Dump this process to a file and return what that says."""

    def show(*runs: Run) -> str:
        path = tmp_path / "dump.log"
        Dumper("here", str(path), lambda: runs).dump()
        return path.read_text()

    return show


def test_a_dump_names_process_and_threads(shown: Callable[..., str]) -> None:
    ready, done = threading.Event(), threading.Event()

    def wait_in_here() -> None:
        ready.set()
        done.wait(60)

    thread = threading.Thread(target=wait_in_here, name="a-thread")
    thread.start()
    assert ready.wait(30)
    try:
        text = shown(Run(3, "tasks.t[id]", thread=thread.ident))
    finally:
        done.set()
        thread.join()

    assert f"stacks of here (pid {os.getpid()})" in text
    assert "slot 3 runs tasks.t[id]: thread a-thread" in text
    assert f"--- thread a-thread ({thread.ident}), runs tasks.t[id]" in text
    assert "done.wait(60)" in text
    assert "_bootstrap" not in text


def test_a_dump_shows_where_a_driven_coroutine_waits(shown: Callable[..., str]) -> None:
    texts: list[str] = []
    suspended = threading.Event()

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        async def inner() -> None:
            loop.call_soon(suspended.set)
            await done.wait()

        async def outer() -> None:
            await inner()

        async def drive() -> None:
            await Interruptible(outer())

        def watch() -> None:
            suspended.wait(30)
            texts.append(shown())
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=watch)
        thread.start()
        await asyncio.create_task(drive(), name="driven")
        thread.join()

    asyncio.run(main())

    (text,) = texts
    stack = text.partition("--- asyncio driven")[2]
    for line in ("await Interruptible(outer())", "await inner()", "await done.wait()"):
        assert line in stack


def test_what_cannot_be_read_is_said_in_the_dump(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"

    def broken() -> list[Run]:
        raise LookupError("on purpose")

    Dumper("here", str(path), broken).dump()

    assert "the stacks can't be read" in path.read_text()
    assert "LookupError: on purpose" in path.read_text()
    assert path.read_text().rstrip().endswith(f"end of the stacks of here (pid {os.getpid()})")


def test_a_dump_that_nobody_can_read_raises_nothing(tmp_path: Path) -> None:
    Dumper("here", str(tmp_path / "no" / "such" / "folder")).dump()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal of POSIX")
def test_a_process_that_is_not_ready_yet_passes_the_signal_over() -> None:
    before = {each: signal.getsignal(each) for each in signal.valid_signals()}
    try:
        leave_signals_to_supervisor()
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
