"""What a task and a result need of an app: the one thing of it that they hold.

Tasks never import the app, so that modules depend in one direction only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from umbel.sendable import SignatureSender

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.registry import TaskRegistry
    from umbel.requests import Request
    from umbel.results.async_result import AsyncResult, EagerResult
    from umbel.settings import Settings
    from umbel.tasks.task import Task


class Call(NamedTuple):
    """One call to be sent: of a task that is known here, or of a name alone."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    task: Task[..., Any] | None = None
    #: An id that was made for it and that nobody else has; else there may be one in `options`.
    new_id: str | None = None


class Sender(SignatureSender, Protocol):
    """The side of an app that its tasks see."""

    @property
    def main(self) -> str:
        """The app's name."""

    @property
    def conf(self) -> Settings:
        """The app's settings, read and checked."""

    @property
    def tasks(self) -> TaskRegistry:
        """The app's tasks by name."""

    @property
    def backend(self) -> Backend | None:
        """This process's handle of the result backend; None where results are disabled."""

    def send_call(self, call: Call) -> AsyncResult[Any]:
        """Send one call; return once the broker has it."""

    def send_calls(self, calls: Iterable[Call], *, batch: int) -> list[AsyncResult[Any]]:
        """Send `calls`, `batch` of them in one go to the broker."""

    def run_locally(self, call: Call, *, throw: bool | None) -> EagerResult[Any]:
        """Run one call in this thread, by the code that a worker runs."""

    def AsyncResult(self, task_id: str, task_name: str | None = None) -> AsyncResult[Any]:  # noqa: N802 - Celery's name
        """Return the result of the task with that id."""

    def is_revoked(self, task_id: str) -> bool:
        """Tell whether the task was revoked."""

    def store_state(self, request: Request, task_id: str, state: str, meta: Any) -> None:
        """Store a state of the task's own, such as PROGRESS."""
