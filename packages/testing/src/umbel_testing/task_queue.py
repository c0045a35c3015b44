"""The queue of a test: what it sent, and the running of it. The fixture `umbel_queue` is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

from umbel_testing.assertions import assert_enqueued, refute_enqueued
from umbel_testing.draining import LIMIT, drain_on_advance, drainer_of
from umbel_testing.enqueued_calls import Enqueued, enqueued
from umbel_testing.stepping import TaskRun

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.tasks.task import Task


class TaskQueue:
    """What `umbel_testing` can do with the queues of an app, as methods."""

    def __init__(self, app: Umbel):
        self._app = app
        self._undo = ExitStack()

    def drain(
        self,
        *,
        queues: Sequence[str] | None = None,
        raise_errors: bool = False,
        limit: int = LIMIT,
    ) -> list[TaskRun]:
        """Run all that is due now; see `umbel_testing.drain`."""
        drainer = drainer_of(self._app)
        return drainer.drain(queues=queues, raise_errors=raise_errors, limit=limit)

    def drain_on_advance(self, *, raise_errors: bool = False) -> list[TaskRun]:
        """Run what is due whenever the clock advances; see `umbel_testing.drain_on_advance`.

        Returns: A list that fills with what ran.
        """
        moved = drain_on_advance(self._app, raise_errors=raise_errors)
        return self._undo.enter_context(moved)

    def enqueued(
        self, task: Task[..., Any] | str | None = None, *, queue: str | None = None
    ) -> list[Enqueued]:
        """Return the calls that wait; see `umbel_testing.enqueued`."""
        return enqueued(self._app, task, queue=queue)

    def assert_enqueued(
        self,
        task: Task[..., Any] | str | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        countdown: float | None = None,
        eta: datetime | float | None = None,
        within: float = 1.0,
        count: int | None = None,
    ) -> list[Enqueued]:
        """Fail unless such a call waits; see `umbel_testing.assert_enqueued`."""
        __tracebackhide__ = True
        return assert_enqueued(
            self._app,
            task,
            args=args,
            kwargs=kwargs,
            queue=queue,
            countdown=countdown,
            eta=eta,
            within=within,
            count=count,
        )

    def refute_enqueued(
        self,
        task: Task[..., Any] | str | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
    ) -> None:
        """Fail if such a call waits; see `umbel_testing.refute_enqueued`."""
        __tracebackhide__ = True
        refute_enqueued(self._app, task, args=args, kwargs=kwargs, queue=queue)

    def close(self) -> None:
        """Let the clock go, and give back what is held. Repeatable."""
        self._undo.close()
        drainer_of(self._app).close()
