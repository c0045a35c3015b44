"""Stack dumps, on USR1: what each thread, coroutine and slot of a worker's processes is doing.

For a worker that seems to hang. A dump takes no lock, ends no call and raises nothing in a task.
A process that can't even run the thread which dumps it, since some C code doesn't let go of the
interpreter, is dumped by `faulthandler`, which needs nobody's consent.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.worker.limits import Interruptible

if TYPE_CHECKING:
    from umbel.worker.processes import Child

#: Seconds that a child may take to dump itself before `faulthandler` does.
_ANSWER_S = 1.0
_LONGEST_CHAIN = 1000
_STANDARD_ERROR = 2
_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)


class Run(msgspec.Struct, frozen=True):
    """What a slot runs: on a thread, or as an asyncio task."""

    slot: int
    #: Name and id of the task.
    label: str
    #: Monotonic seconds; None: not known.
    begun_at: float | None = None
    #: Ident of the thread.
    thread: int | None = None
    task: asyncio.Task[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None


Runs = Callable[[], Sequence[Run]]


class Dumper:
    """Dumps the process that it lives in."""

    def __init__(self, name: str, logfile: str | None, runs: Runs = tuple):
        """`name` is the process's, for people; without `logfile` standard error is written to."""
        self._name, self._logfile, self._runs = name, logfile, runs

    def dump(self) -> None:
        """Write the stacks of this process. Any thread; never raises."""
        title = f"{self._name} (pid {os.getpid()})"
        try:
            text = "".join(_describe(self._runs()))
        except Exception:  # noqa: BLE001 - said in the dump
            text = f"the stacks can't be read: {traceback.format_exc()}"
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        self._write(f"=== {now} stacks of {title}\n{text}=== end of the stacks of {title}\n")

    def stand_by(self) -> None:
        """Have `faulthandler` dump this process on USR1, whatever it is doing. Main thread only."""
        if _SIGNAL is not None:
            faulthandler.register(_SIGNAL, self._open(), all_threads=True, chain=False)

    def _write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        try:  # past `logging`, whose locks and levels may be what is wrong
            handle = self._open()
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                if handle != _STANDARD_ERROR:
                    os.close(handle)
        except OSError:  # nobody reads it, or the disk is full
            return

    def _open(self) -> int:
        """Return a descriptor to write to."""
        if self._logfile is None:
            return _STANDARD_ERROR
        return os.open(self._logfile, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


class NodeDumps:
    """Dumps the supervisor and has its children dump themselves, from a thread of its own."""

    def __init__(self, own: Dumper, children: Callable[[], Sequence[Child]]):
        self._own, self._children = own, children
        # Unlike an event or a lock, it may be put into by a signal handler anywhere.
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="umbel-dumps", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self) -> None:
        """Ask for a dump; returns at once. Signal handlers may call it."""
        self._requests.put(True)

    def stop(self) -> None:
        """End the thread."""
        self._requests.put(False)
        self._thread.join()

    def _serve(self) -> None:
        while self._requests.get():
            self._own.dump()
            children = self._children()
            for child in children:
                child.ask_for_dump()
            ends_at = time.monotonic() + _ANSWER_S
            for child in children:
                if not child.has_dumped(max(0.0, ends_at - time.monotonic())):
                    self._dump_by_force(child)

    def _dump_by_force(self, child: Child) -> None:
        if _SIGNAL is not None and _catches(child.pid, _SIGNAL):
            child.send_signal(_SIGNAL)


def _catches(pid: int, number: int) -> bool:
    """Tell whether a process is known to have a handler for a signal that would end it else."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "SigCgt":
            return bool(int(value, 16) >> (number - 1) & 1)
    return False


# -- reading stacks ---------------------------------------------------------------------------


def _describe(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of a dump: slots, then threads, then asyncio tasks."""
    now = time.monotonic()
    frames, me = sys._current_frames(), threading.get_ident()  # noqa: SLF001 - there is no other way
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for run in sorted(runs, key=lambda each: each.slot):
        since = "" if run.begun_at is None else f" for {now - run.begun_at:.1f} s"
        where = run.task.get_name() if run.task else f"thread {names.get(run.thread, run.thread)}"
        yield f"slot {run.slot} runs {run.label}{since}: {where}\n"
    by_thread = {run.thread: run.label for run in runs if run.thread is not None}
    for ident, frame in frames.items():
        if ident != me:
            yield f"--- thread {names.get(ident, '?')} ({ident}){_runs(by_thread.get(ident))}\n"
            yield from traceback.format_list(_without_beginning(traceback.extract_stack(frame)))
    by_task = {run.task: run.label for run in runs if run.task is not None}
    for task in _tasks(runs, frames.values()):
        yield f"--- asyncio {task.get_name()}{_runs(by_task.get(task))}\n"
        yield from traceback.format_list(_stack_of(task))


def _without_beginning(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Leave out how a thread is started, which is the same for all."""
    return [*dropwhile(lambda frame: frame.filename == threading.__file__, stack)] or stack


def _runs(label: str | None) -> str:
    return "" if label is None else f", runs {label}"


def _tasks(runs: Sequence[Run], frames: Iterable[FrameType]) -> list[asyncio.Task[Any]]:
    """Return the asyncio tasks of all loops that slots use or threads run, unfinished."""
    loops = {run.loop for run in runs if run.loop is not None}
    for start in frames:
        frame: FrameType | None = start
        while frame is not None:
            if frame.f_code.co_name == "run_forever":
                loop = frame.f_locals.get("self")
                if isinstance(loop, asyncio.AbstractEventLoop):
                    loops.add(loop)
            frame = frame.f_back
    found = [task for loop in loops for task in asyncio.all_tasks(loop)]
    return sorted(found, key=lambda task: task.get_name())


def _stack_of(task: asyncio.Task[Any]) -> traceback.StackSummary:
    """Return the stack of a task from its first coroutine to where it waits."""
    frames: list[tuple[FrameType, int]] = []
    at: Any = task.get_coro()
    while at is not None and len(frames) < _LONGEST_CHAIN:
        frame = _part(at, "frame")
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        inner = _part(at, "await") or _part(at, "yieldfrom")
        if inner is None and frame is not None and frame.f_code is Interruptible.__await__.__code__:
            inner = frame.f_locals["self"].coroutine  # which it drives by hand
        at = inner
    return traceback.StackSummary.extract(iter(frames))


def _part(coroutine: Any, name: str) -> Any:
    """Return an attribute of a coroutine or generator of any kind; None: it has no such."""
    for kind in ("cr", "gi", "ag"):
        found = getattr(coroutine, f"{kind}_{name}", None)
        if found is not None:
            return found
    return None
