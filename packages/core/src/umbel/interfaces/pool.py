"""The contract of a pool: runs jobs in the slots of one worker process.

A pool knows nothing of brokers and results. The worker gives it jobs, at most as many as it has
slots; each job reports its own outcome, upon which its slot counts as free. A job should not
raise; one that does all the same costs the pool no slot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec


class Job(Protocol):
    """One task to run: by `run` or by `arun`, once."""

    @property
    def is_coroutine(self) -> bool:
        """Whether a pool that has an event loop awaits `arun`. All else is run by `run`."""

    def run(self) -> None:
        """Run the task on this thread, on which no event loop runs, to its end."""

    def arun(self) -> Coroutine[Any, Any, None]:
        """Run the task on the running event loop, to its end."""


class PoolCapability(StrEnum):
    """What a pool can do beyond running."""

    #: `interrupt` raises an exception inside a running job.
    INTERRUPT = "interrupt"


class Pool(ABC):
    """A fixed number of slots in this process.

    Making one starts nothing. Threads that it starts are daemons: a job that never ends must not
    keep its process alive. What has ended is let go of at once.
    """

    capabilities: ClassVar[frozenset[PoolCapability]] = frozenset()

    def __init__(self, slots: int):
        #: How many jobs run at once; 1 or more.
        self.slots = slots

    @abstractmethod
    def start(self) -> None:
        """Start what runs jobs. Called once, in the process and thread that uses the pool."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin `jobs`, without waiting for any of them.

        The caller never exceeds `slots`; with that many, all run at once. It may call from several
        threads, and from a job that reports its end.

        Raises: StateError: the pool was stopped; none was begun.
        """

    def interrupt(self, job: Job, error: type[BaseException]) -> bool:
        """Raise `error` inside the running `job`, and in no other; from any thread.

        Returns: False where nothing is raised: the job doesn't run, or INTERRUPT isn't declared.
        """
        return False

    @abstractmethod
    def stop(self, *, timeout_s: float) -> bool:
        """End all. What runs on a loop may be cancelled; all else is waited for. Repeatable.

        Args:
            timeout_s: Seconds to wait at most.
        Returns: Whether nothing runs any more.
        """


class PoolFactory(Protocol):
    """Makes the pool of one worker process."""

    def __call__(self, slots: int) -> Pool:
        """Return a pool of `slots` slots, not started."""


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin offers under a pool's name.

    Without `factory`, tasks run one at a time on the main thread of their process: the fast
    path. With `in_children`, processes of a supervisor run them; else the foreground process.
    """

    name: str
    help: str
    factory: PoolFactory | None = None
    in_children: bool = True
    #: ``--concurrency`` counts processes (one slot each) rather than slots in one process.
    concurrency_is_processes: bool = False
