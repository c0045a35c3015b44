"""What results need of an app: a way to its backend, its serializer and its control.

One object an app, shared by all its results, so that a result is a few words of memory and
never holds the app. Nothing is opened before a result is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from umbel.clock import SYSTEM_CLOCK, Clock
from umbel.error_info import Allowed, rebuild
from umbel.errors import BackendError, TaskError
from umbel.interfaces.backend import Backend
from umbel.interfaces.serializer import Serializer
from umbel.outcomes import StoredResult
from umbel.results.codec import ResultDocument, decode_result
from umbel.results.waiting import ResultWaiter


class Revoker(Protocol):
    """Revokes tasks; the app's control."""

    def __call__(self, task_ids: Sequence[str], /, *, terminate: bool, signal: str) -> None:
        """Revoke `task_ids`; with `terminate`, end those that run by `signal`."""


class ResultSource:
    """Reads results for `AsyncResult`.

    Args:
        backend: Returns this process's handle, opened if need be (another one after a fork);
            None where results are disabled.
        serializer: Returns the serializer of results (``result_serializer``).
        revoke: Revokes tasks; None where there is no control.
        allowed: Which exception classes may be rebuilt (see `umbel.error_info.rebuild`).
        clock: Where to read the time.
    """

    __slots__ = ("_backend", "_revoke", "_serializer", "_waiters", "allowed", "clock")

    def __init__(
        self,
        *,
        backend: Callable[[], Backend | None],
        serializer: Callable[[], Serializer],
        revoke: Revoker | None = None,
        allowed: Allowed = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._backend, self._serializer, self._revoke = backend, serializer, revoke
        self.allowed, self.clock = allowed, clock
        # By process and handle. Changed by atomic dict calls alone: a lock could be held by
        # another thread at a fork, and would then be held for ever in the child.
        self._waiters: dict[tuple[int, int], ResultWaiter] = {}

    def backend(self) -> Backend:
        """Return the backend handle of this process.

        Raises: BackendError: the app keeps no results.
        """
        backend = self._backend()
        if backend is None:
            raise BackendError("this app keeps no results, so none can be read; set result_backend")
        return backend

    def load(self, task_ids: Sequence[str]) -> dict[str, ResultDocument]:
        """Return what is stored for `task_ids` now; unknown ones are left out.

        Raises:
            BackendUnavailableError: the backend can't be reached now.
            DecodeError: a stored result isn't what `result_serializer` writes.
        """
        return self.decode(self.backend().load(task_ids))

    def decode(self, stored: Mapping[str, StoredResult]) -> dict[str, ResultDocument]:
        """Decode what a backend returned. Raises: DecodeError."""
        if not stored:
            return {}
        serializer = self._serializer()
        return {key: decode_result(result.body, serializer) for key, result in stored.items()}

    def exception(self, document: ResultDocument) -> BaseException:
        """Return a new exception for the error that `document` tells of."""
        error = document.error
        if error is None:
            return TaskError(
                f"task {document.task_id!r} ended as {document.status}, and what is stored as its "
                f"error can't be read: {document.result!r:.200}"
            )
        return rebuild(error, allowed=self.allowed)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the results of `task_ids`, and end all waiting for them in this process."""
        backend = self.backend()
        backend.forget(task_ids)
        waiter = self._waiters.get((os.getpid(), id(backend)))
        if waiter is not None:
            waiter.drop(task_ids)

    def revoke(self, task_ids: Sequence[str], *, terminate: bool, signal: str) -> None:
        """Revoke `task_ids`.

        Raises: BackendError: the app has no control channel.
        """
        if self._revoke is None:
            raise BackendError("this app has no control channel, so no task can be revoked")
        self._revoke(task_ids, terminate=terminate, signal=signal)

    def waiter(self) -> ResultWaiter:
        """Return the one waiter of this process and backend handle. Raises: BackendError."""
        backend = self.backend()
        key = (os.getpid(), id(backend))
        waiter = self._waiters.get(key)
        if waiter is None:
            waiter = self._waiters.setdefault(key, ResultWaiter(backend, self.clock))
            for old in [other for other in list(self._waiters) if other != key]:
                # Of a parent process, or of a handle that was closed: its thread ends when idle.
                self._waiters.pop(old, None)
        return waiter

    def close(self) -> None:
        """End all waiting in this process; before the backend is closed. Repeatable."""
        for key in list(self._waiters):
            waiter = self._waiters.pop(key, None)
            if waiter is not None and key[0] == os.getpid():
                waiter.stop()


def _no_serializer() -> Serializer:
    raise BackendError("results that are stored nowhere have no serializer")


#: For results that are stored nowhere.
NO_SOURCE = ResultSource(backend=lambda: None, serializer=_no_serializer)
