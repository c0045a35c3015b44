"""Calling back when results are there: what ``then`` leaves behind."""
# ruff: noqa: SLF001 - results look into each other, all of one family

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from umbel.errors import BackendError, UmbelError
from umbel.outcomes import StoredResult
from umbel.results.joining import Missing
from umbel.results.source import ResultSource
from umbel.results.waiting import Arrival, Waiting

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult

S = TypeVar("S")

logger = logging.getLogger("umbel.results")


class Countdown(Generic[S]):
    """Calls back once, when none of many results is missing, or one of them has failed.

    Args:
        result: What `callback` is called with.
        missing: What to wait for.
        what: What an error calls it.
        callback: Called when all are over.
        on_error: Called with the first error in its place; None: errors are passed over.
    """

    def __init__(
        self,
        result: S,
        missing: Missing,
        what: str,
        callback: Callable[[S], object],
        on_error: Callable[[BaseException], object] | None,
    ) -> None:
        self._result, self._missing, self._what = result, missing, what
        self._callback, self._on_error = callback, on_error
        self._is_over = False
        self._tickets: list[Waiting] = []

    def start(self, source: ResultSource, known: list[AsyncResult[Any]]) -> None:
        """Begin to wait; call back at once if nothing is missing, or a `known` result failed."""
        self._source = source
        self._check(known)
        if self._is_over:
            return
        self._waiter = source.waiter()
        self._tickets = self._waiter.add_all(self._missing.ids(), self._arrived)
        self._tidy()  # the waiter's thread may have been through with it before

    def _arrived(self, arrival: Arrival) -> None:
        if self._is_over:
            return
        try:
            if not isinstance(arrival, StoredResult):
                raise BackendError(
                    f"waiting for the results of {self._what} failed: {arrival}"
                ) from arrival
            seen = self._source.decode({arrival.task_id: arrival})
        except UmbelError as exc:
            self._end()
            if self._on_error is None:
                logger.error("no callback for %s: %s", self._what, exc)
            else:
                self._call(self._on_error, exc)
            return
        self._check(self._missing.take(seen))

    def _end(self) -> None:
        self._is_over = True
        self._tidy()

    def _tidy(self) -> None:
        if self._is_over:
            for ticket in self._tickets:
                self._waiter.discard(ticket)

    def _check(self, arrived: list[AsyncResult[Any]]) -> None:
        if self._on_error is not None:
            for each in arrived:
                if (error := each._failure()) is not None:
                    self._end()
                    self._call(self._on_error, error)
                    return
        if not self._missing:
            self._end()
            self._call(self._callback, self._result)

    def _call(self, callback: Callable[[Any], object], value: Any) -> None:
        try:
            callback(value)
        except Exception:
            logger.exception("a callback on the results of %s failed", self._what)
