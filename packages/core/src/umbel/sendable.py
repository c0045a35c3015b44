"""The side of a signature that an app sees to: ids, sending, and running it here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self, TypeVar, cast

from umbel.argument_checks import keywords, positional
from umbel.errors import InvalidTaskError, NoCurrentAppError
from umbel.off_loop import in_thread

if TYPE_CHECKING:
    from umbel.results.async_result import AsyncResult
    from umbel.signatures import Signature

R_co = TypeVar("R_co", covariant=True)


class SignatureSender(Protocol):
    """What a signature needs of an app."""

    @property
    def tasks(self) -> Any:
        """The app's tasks by name."""

    def apply_signature(
        self,
        signature: Signature[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Any:
        """Send what `signature` begins with; return its result."""

    def run_signature_locally(
        self,
        signature: Signature[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        throw: bool | None,
    ) -> Any:
        """Run `signature`, and all that follows from it, in this thread; return its result."""

    def freeze_signature(self, signature: Signature[Any]) -> tuple[Signature[Any], Any]:
        """Return `signature` with an id wherever it has none, and the result it will have."""


def _no_sender() -> NoReturn:
    raise NoCurrentAppError("this signature belongs to no app, and none has been made here")


#: Returns the app of a signature that is bound to none; `umbel.current_app` sets it.
_default_sender: Callable[[], Any] = _no_sender


def set_default_sender(find: Callable[[], Any]) -> None:
    """Have `find` called for the app of signatures that are bound to none."""
    global _default_sender  # noqa: PLW0603 - the current app is global by design
    _default_sender = find


class Sendable(Generic[R_co]):
    """What signatures are sent with. Not for use by itself."""

    __slots__ = ()

    if TYPE_CHECKING:
        task: str
        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        options: dict[str, Any]
        _app: SignatureSender | None

        def clone(
            self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
        ) -> Self:
            """Return a copy with more arguments and options."""

        def set(self, **options: Any) -> Self:
            """Return a copy with more options."""

    # -- ids --------------------------------------------------------------------------------------

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Self:
        """Return a copy all of whose parts have the ids that they will be sent with.

        What is sent of it has the ids that `result` shows before. A copy can be sent once.

        Args:
            _id: Its id, unless it has one; None: a new one.
            group_id: The group that it is a member of, unless it is of one.
            chord: The body of the chord that it is a part of.
            root_id: The first task of the workflow.
            parent_id: The task that it follows from.
            group_index: Its place in the group.
        """
        given = {
            "task_id": self.options.get("task_id") or _id,
            "group_id": self.options.get("group_id") or group_id,
            "chord": chord,
            "root_id": root_id,
            "parent_id": parent_id,
            "group_index": group_index,
        }
        given = {name: value for name, value in given.items() if value is not None}
        ready = cast("Signature[R_co]", self.set(**given) if given else self)
        return cast("Self", self.app.freeze_signature(ready)[0])

    @property
    def id(self) -> str | None:
        """The id that it will be sent with; None: it gets one then."""
        return self.options.get("task_id")

    @property
    def result(self) -> AsyncResult[R_co]:
        """The result that it will have. Raises: InvalidTaskError: it isn't frozen."""
        if self.id is None:
            raise InvalidTaskError(f"{self!r} has no id yet, so no result; see freeze()")
        found: AsyncResult[R_co] = self.app.freeze_signature(cast("Signature[R_co]", self))[1]
        return found

    # -- sending ----------------------------------------------------------------------------------

    @property
    def app(self) -> SignatureSender:
        """The app that sends it. Raises: NoCurrentAppError: it is bound to none, and none is current."""
        return cast("SignatureSender", _default_sender() if self._app is None else self._app)

    @property
    def type(self) -> Any:
        """The task that it calls. Raises: UnknownTaskError: it isn't known here."""
        return self.app.tasks[self.task]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """Send it.

        Args:
            args: Go before its own arguments; of a chain before those of its first step, of a
                group or the header of a chord before those of each member.
            kwargs: Merged into its own.
            **options: Over its own; see `umbel.options.SendOptions`. None says nothing.
        Raises: as `umbel.Task.apply_async`; BackendError: a chord, but nowhere to count its parts.
            InvalidTaskError: an option, here or further down, is unknown or of a wrong value.
        """
        given = {name: each for name, each in options.items() if each is not None}
        result: AsyncResult[R_co] = self.app.apply_signature(
            cast("Signature[R_co]", self),
            positional(self.task, args),
            keywords(self.task, kwargs),
            given,
        )
        return result

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[R_co]:
        """Send it, with more arguments."""
        return self.apply_async(args, kwargs)

    async def aapply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """Send it, without blocking the event loop."""
        return await in_thread(self.apply_async, args, kwargs, **options)

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult[R_co]:
        """Send it, with more arguments, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> AsyncResult[R_co]:
        """Run it, and all that follows from it, in this thread by the code that a worker runs.

        Args:
            args: As of `apply_async`.
            kwargs: As of `apply_async`.
            throw: Raise its error. None: as ``task_eager_propagates`` says.
            **options: As of `apply_async`.
        """
        result: AsyncResult[R_co] = self.app.run_signature_locally(
            cast("Signature[R_co]", self),
            positional(self.task, args),
            keywords(self.task, kwargs),
            options,
            throw=throw,
        )
        return result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task here and now, as a function; a composed signature is sent instead."""
        called = self.clone(args, kwargs)
        return self.type(*called.args, **called.kwargs)

    def __invert__(self) -> R_co:
        """Send it, wait for it, and return its value."""
        return self.apply_async().get()
