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
from umbel.errors import BackendError, TaskError, WrongTypeError
from umbel.interfaces.backend import Backend, BackendCapability
from umbel.interfaces.serializer import Serializer
from umbel.outcomes import ChordProgress, StoredResult
from umbel.results.codec import ResultDocument, decode_result
from umbel.results.waiting import CHUNK, ResultWaiter, chunks


class Revoker(Protocol):
    """Revokes tasks; the app's control."""

    def __call__(self, task_ids: Sequence[str], /, *, terminate: bool, signal: str) -> None:
        """Revoke `task_ids`; with `terminate`, end those that run by `signal`."""


class HasResults(Protocol):
    """An app, as far as its results matter."""

    @property
    def results(self) -> ResultSource:
        """How results of the app are read."""


class ResultSource:
    """Reads results for `AsyncResult`.

    Args:
        backend: Returns this process's handle, opened if need be (another one after a fork);
            None where results are disabled.
        serializer: Returns the serializer of results (``result_serializer``).
        revoke: Revokes tasks; None where there is no control.
        allowed: Which exception classes may be rebuilt (see `umbel.error_info.rebuild`).
        clock: Where to read the time.
        group_ttl_s: Seconds that a saved group is kept; None: for ever.
    """

    __slots__ = (
        "_backend",
        "_revoke",
        "_serializer",
        "_waiters",
        "allowed",
        "clock",
        "group_ttl_s",
    )

    def __init__(
        self,
        *,
        backend: Callable[[], Backend | None],
        serializer: Callable[[], Serializer],
        revoke: Revoker | None = None,
        allowed: Allowed = (),
        clock: Clock = SYSTEM_CLOCK,
        group_ttl_s: float | None = None,
    ) -> None:
        self._backend, self._serializer, self._revoke = backend, serializer, revoke
        self.allowed, self.clock, self.group_ttl_s = allowed, clock, group_ttl_s
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
        backend = self.backend()
        if len(task_ids) <= CHUNK:
            return self.decode(backend.load(task_ids))
        found: dict[str, ResultDocument] = {}
        for chunk in chunks(task_ids):
            found.update(self.decode(backend.load(chunk)))
        return found

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
        for chunk in chunks(task_ids):
            backend.forget(chunk)
        waiter = self._waiters.get((os.getpid(), id(backend)))
        if waiter is not None:
            waiter.drop(task_ids)

    def progress(self, group_id: str) -> ChordProgress | None:
        """Return how far a group has come; None where the backend doesn't count it."""
        backend = self.backend()
        if BackendCapability.CHORD not in backend.capabilities:
            return None
        return backend.chord_progress((group_id,)).get(group_id)

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


def source_of(given: ResultSource | HasResults | None = None) -> ResultSource:
    """Return how to read results: `given`, that of the app which it is, or the current app's.

    Raises:
        NoCurrentAppError: nothing was given, and there is no current app.
        WrongTypeError: `given` is neither.
    """
    if isinstance(given, ResultSource):
        return given
    if given is None:
        # What an app is made of costs start-up time, and there is an app where this is needed.
        from umbel.current_app import current_app  # noqa: PLC0415

        app: HasResults = current_app()
        return app.results
    if not isinstance(found := getattr(given, "results", None), ResultSource):
        raise WrongTypeError(f"an app is wanted, or the results of one, not {given!r:.80}")
    return found


#: For results that are stored nowhere.
NO_SOURCE = ResultSource(backend=lambda: None, serializer=_no_serializer)
