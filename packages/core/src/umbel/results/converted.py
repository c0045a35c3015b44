"""Results of tasks whose return annotation is a class of the user's: made that class again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from umbel.errors import DecodeError
from umbel.results.async_result import AsyncResult
from umbel.results.codec import ResultDocument
from umbel.results.handle import R_co
from umbel.results.source import ResultSource
from umbel.states import EXCEPTION_STATES, SUCCESS


class ConvertedResult(AsyncResult[R_co]):
    """A result whose value is given the type that the task says it returns.

    Args:
        id: The task's id.
        source: How to read results.
        load: Makes the value of what was stored.
        name: The task's name.
        ignored: Nothing will be stored.
    """

    __slots__ = ("_load",)

    def __init__(
        self,
        id: str,
        source: ResultSource,
        load: Callable[[Any], Any],
        *,
        name: str | None = None,
        ignored: bool = False,
    ) -> None:
        super().__init__(id, source, name=name, ignored=ignored)
        self._load = load

    def _value(
        self,
        document: ResultDocument | None,
        exception_states: Collection[str] = EXCEPTION_STATES,
    ) -> Any:
        value = super()._value(document, exception_states)
        if document is None or document.status != SUCCESS:
            return value
        try:
            return self._load(value)
        except ValueError as exc:  # msgspec's and pydantic's errors are such
            raise DecodeError(
                f"the result of task {self._name!r} [{self.id}] isn't what the task is annotated "
                f"to return: {exc}"
            ) from exc
