"""What chains, groups and chords have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from umbel.canvas.policies import ON_FAILURE, checked_policy
from umbel.errors import DecodeError
from umbel.signatures import Signature
from umbel.stamps import check_visitor, combined, named

if TYPE_CHECKING:
    from umbel.canvas.stamping import StampingVisitor, Stamps


class Composed(Signature[Any]):
    """What chains, groups and chords have in common: they are sent when they are called."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with more arguments."""
        return self.apply_async(args, kwargs)

    def clone(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_failure: str | None = None,
        **options: Any,
    ) -> Self:
        """Return a copy with `args` and `kwargs` for its first step or members, and `options`.

        `on_failure` is that of `set`.
        """
        if on_failure is not None:
            options[ON_FAILURE] = self._checked_policy(on_failure)
        copy = super().clone(**options)
        if self.immutable or not (args or kwargs):
            return copy
        return copy.settled()._for_members(args, kwargs)

    partial = clone

    def set(
        self, *, immutable: bool | None = None, on_failure: str | None = None, **options: Any
    ) -> Self:
        """Return a copy with these options merged in, whatever it had.

        Args:
            immutable: Take no parent's result, or do; None: as it is.
            on_failure: Of a chord, or a group that something comes after: what a failed member
                means; see `umbel.chord`.
            **options: See `umbel.options.SendOptions`.
        Raises: InvalidTaskError: `on_failure` isn't known, or it is a chain.
        """
        if on_failure is not None:
            options[ON_FAILURE] = self._checked_policy(on_failure)
        return super().set(immutable=immutable, **options)

    def _checked_policy(self, given: str) -> str:
        return checked_policy(given)

    def settled(self) -> Self:
        """Return a copy that has no arguments itself, as in Celery's forms: its members have."""
        if not self.args:
            return self
        return self._changed(args=())._for_members(self.args, None)

    def _for_members(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Self:
        raise NotImplementedError  # each kind has its own


class OfTasks(Composed):
    """What is made of a list of signatures."""

    __slots__ = ()

    @property
    def tasks(self) -> tuple[Signature[Any], ...]:
        """What it is made of."""
        found: tuple[Signature[Any], ...] = self.kwargs["tasks"]
        return found

    def _with_tasks(self, tasks: Iterable[Signature[Any]]) -> Self:
        return self._changed(kwargs={**self.kwargs, "tasks": tuple(tasks)})

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        """Return a copy that is stamped, with all that it is made of; see `Signature.stamp`."""
        check_visitor(visitor)
        given = named(headers)
        if visitor is not None:
            given = combined(given, named(self._enter(visitor, given)), append=append_stamps)
        copy = self.stamp_links(visitor, append_stamps, **given)
        copy = copy._with_tasks(each.stamp(visitor, append_stamps, **given) for each in self.tasks)
        if visitor is not None:
            copy._leave(visitor, given)
        return copy

    def _enter(self, visitor: StampingVisitor, given: dict[str, Any]) -> Stamps | None:
        """Ask for the stamps of all parts."""
        raise NotImplementedError  # each kind has its own

    def _leave(self, visitor: StampingVisitor, given: dict[str, Any]) -> None:
        """Say that all parts are stamped."""
        raise NotImplementedError  # each kind has its own

    def _kwargs_as_dicts(self) -> dict[str, Any]:
        return {**self.kwargs, "tasks": [each.to_dict() for each in self.tasks]}

    def _read_kwargs(self, task: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        tasks = raw.get("tasks")
        if not isinstance(tasks, (list, tuple)):
            raise DecodeError(f"'tasks' of signature {task!r} must be a list")
        return {**raw, "tasks": tuple(Signature.from_dict(each) for each in tasks)}

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True  # an empty one is a signature, too
