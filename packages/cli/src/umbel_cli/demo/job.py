"""Send one task a file, keep workers running until all results are there, and gather them.

Everything can be stopped at any instant and started again: what has a final result isn't sent
again, what waits in the queue isn't either, and what a killed worker held comes back by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from umbel.errors import UmbelError
from umbel.interfaces.backend import Backend
from umbel.interfaces.broker import Capability
from umbel.messages import Message
from umbel.options import SendOptions
from umbel.outcomes import StoredResult
from umbel.results.codec import decode_result
from umbel.states import SUCCESS, is_final
from umbel_cli.demo.runs import Run, RunNotes
from umbel_cli.demo.summary import shares
from umbel_cli.demo.tasks import FOLDER, QUEUE, FileReport, app, index_file
from umbel_cli.demo.workers import DemoWorker

if TYPE_CHECKING:
    from umbel_cli.demo.progress import Shown

#: How long one look at the results waits for the first of them, and how many it looks for: tasks
#: are done about in the order in which they were sent.
_WAIT_S, _WINDOW = 0.25, 200
#: Between two looks, so that counting takes no time from the workers.
_PAUSE_S = 0.05
#: How often workers are started without any result coming of it.
_FRUITLESS_STARTS = 4
_RESTART_PAUSE_S = 2.0


class JobError(UmbelError):
    """The demo can't go on."""


class JobResult(NamedTuple):
    """What came of a run."""

    run: Run
    resumed: bool
    reports: list[FileReport]
    #: File → why its task failed.
    failed: dict[str, str]
    #: How many tasks were done since this start, and in how many seconds.
    done_now: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Tasks a second since this start."""
        return self.done_now / max(self.elapsed_s, 0.001)

    @property
    def shares(self) -> dict[int, int]:
        """How many tasks each process did, the busiest first."""
        return shares(report["pid"] for report in self.reports)


class Job:
    """One run of the demo, new or gone on with.

    Args:
        files: What to index.
        fresh: Begin again, though a run was stopped before its end.
    """

    def __init__(self, files: Sequence[str], *, fresh: bool) -> None:
        self._notes = RunNotes(Path(FOLDER))
        self._run, self.resumed = self._notes.resume_or_begin(files, fresh=fresh)
        self._reports: dict[str, FileReport] = {}
        self._failed: dict[str, str] = {}
        #: Task id → file, of what has no result yet, in order of sending.
        self._missing = {self._run.task_id(file): file for file in files}
        if self.resumed:
            self._take(self._backend.load(list(self._missing)))
        elif Capability.PURGE in app.broker.capabilities:
            app.broker.purge(QUEUE)  # of a run that was given up
        self.total = len(files)

    @property
    def done(self) -> int:
        """How many files have a result."""
        return self.total - len(self._missing)

    def run(self, worker: DemoWorker, display: Shown) -> JobResult:
        """Have `worker` do all that is missing. Raises: JobError: it doesn't."""
        started = ended = time.monotonic()
        done_before, fruitless = self.done, 0
        lacking = self._lacking(is_first=True)
        while self._missing:
            self._send(lacking)
            done = self.done
            try:
                worker.start()
                self._gather(worker, display)
                ended = time.monotonic()
            finally:
                worker.stop()
            fruitless = 0 if self.done > done else fruitless + 1
            if fruitless >= _FRUITLESS_STARTS:
                raise JobError(
                    f"the workers end without a result; their last words:\n{worker.last_words()}"
                )
            if self._missing and fruitless:
                time.sleep(_RESTART_PAUSE_S)  # a killed worker's messages come back after a while
            lacking = self._lacking(is_first=False)
        self._notes.write(self._run._replace(finished=True))
        return JobResult(
            self._run,
            self.resumed,
            list(self._reports.values()),
            dict(self._failed),
            done_now=self.done - done_before,
            elapsed_s=ended - started,
        )

    @property
    def _backend(self) -> Backend:
        backend = app.backend
        assert backend is not None  # noqa: S101 - the demo's app names one
        return backend

    def _lacking(self, *, is_first: bool) -> list[str]:
        """Return ids of the missing that no message waits for, and no worker has."""
        broker = app.broker
        if Capability.INSPECT not in broker.capabilities:
            # Nobody can look into the queue; but once a worker has ended, it is empty.
            return [] if is_first and self.resumed else list(self._missing)
        stats = broker.stats(QUEUE)
        waiting = _ids(broker.peek(QUEUE, limit=stats.ready)) if stats.ready else set()
        lacking = [key for key in self._missing if key not in waiting]
        # Where fewer lack than are held, a worker has them, or a dead one's lease still runs.
        return lacking if len(lacking) > stats.held else []

    def _send(self, task_ids: Sequence[str]) -> None:
        once: SendOptions = {}
        if Capability.UNIQUE in app.broker.capabilities:
            once = {"on_conflict": "return"}  # what a killed worker held comes back by itself
        calls = ((key, index_file.signature((self._missing[key],), **once)) for key in task_ids)
        app.send_many(call.set(task_id=key) for key, call in calls)

    def _gather(self, worker: DemoWorker, display: Shown) -> None:
        """Take results in until none is missing, or the worker ends."""
        display.update(self.done)
        while self._missing:
            has_ended = worker.exit_code() is not None
            window = list(self._missing)[:_WINDOW]
            found = self._backend.wait(window, timeout_s=_WAIT_S)
            if has_ended or (found and len(window) < len(self._missing)):
                found = self._backend.load(list(self._missing))
            self._take(found)
            display.update(self.done)
            if has_ended:
                return
            time.sleep(_PAUSE_S)

    def _take(self, results: Mapping[str, StoredResult]) -> None:
        serializer = app.serializer(app.conf.result_serializer)
        for task_id, stored in results.items():
            if not is_final(stored.state):
                continue
            file = self._missing.pop(task_id)
            document = decode_result(stored.body, serializer)
            if stored.state == SUCCESS:
                self._reports[file] = document.result
            else:
                self._failed[file] = f"{stored.state}: {document.result}"


def _ids(messages: Iterable[object]) -> set[str]:
    return {message.id for message in messages if isinstance(message, Message)}
