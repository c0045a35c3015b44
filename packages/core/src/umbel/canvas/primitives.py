"""Chains, groups and chords: signatures that are made of others.

Named as functions are, since that is how they are used, and as in Celery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from umbel.argument_checks import no_signature
from umbel.canvas.composed import Composed, OfTasks
from umbel.canvas.countdowns import countdowns
from umbel.canvas.options import AS_A_WHOLE, as_member, defaulted, linked, overridden
from umbel.canvas.policies import ON_FAILURE, checked_policy
from umbel.errors import DecodeError, InvalidTaskError
from umbel.signature_forms import LINKS
from umbel.signatures import Signature, as_dict, signature_of
from umbel.stamps import check_visitor, combined, named

if TYPE_CHECKING:
    from umbel.canvas.stamping import StampingVisitor, Stamps

CHAIN = "chain"
GROUP = "group"
CHORD = "chord"


@Signature.register_type(CHAIN)
class chain(OfTasks):  # noqa: N801 - Celery's name
    """Steps that run one after the other, each with the result of the one before it.

    Args:
        *tasks: The steps, or one iterable of them. The steps of a chain in it are its own, and an
            empty group in it is nothing.
        **options: Of the chain: ``link``, ``task_id``, ``group_id`` and ``chord`` are those of its
            last step, ``link_error`` that of all; what else there is, of its first.
    """

    __slots__ = ()

    def __init__(self, *tasks: Any, **options: Any) -> None:
        found = _signatures(tasks)
        steps = tuple(step for each in found for step in self._steps(each))
        super().__init__(
            "celery.chain",
            kwargs={"tasks": steps},
            options=options,
            subtask_type=CHAIN,
            app=_app_of(found),
        )

    @classmethod
    def joined(cls, first: Signature[Any], second: Signature[Any]) -> Signature[Any]:
        """Return what ``first | second`` is, where neither has a way of its own.

        What comes after a chord goes on from its body.
        """
        before, after = cls._steps(first), cls._steps(second)
        if before and after and isinstance(before[-1], chord) and before[-1].body is not None:
            rest = after[0] if len(after) == 1 else cls(after)
            before, after = before[:-1], (before[-1]._then(rest),)
        both = (*before, *after)
        if len(both) == 1:
            return both[0]
        return cls()._with_tasks(both).bound_to(_app_of((first, second, *both[:1])))

    @staticmethod
    def _steps(given: Signature[Any]) -> tuple[Signature[Any], ...]:
        """Return the steps that it is in a chain. An empty group is none."""
        if is_nothing(given):
            return ()
        return given.unchain_tasks() if isinstance(given, chain) else (given,)

    def unchain_tasks(self) -> tuple[Signature[Any], ...]:
        """Return the steps, none of them a chain, with what the chain has as options.

        Empty groups among them are left out, unless there is nothing else.
        """
        if not (self.options or self.args or self.immutable):
            tasks = self.tasks
            if all(type(each) is Signature for each in tasks):
                return tasks  # nearly always
        found: list[Signature[Any]] = []
        for each in self.settled().tasks:
            found += each.unchain_tasks() if isinstance(each, chain) else [each]
        found = [each for each in found if not is_nothing(each)] or found
        options = self.options
        if found and self.immutable:
            found[0] = found[0].set_immutable()
        if not found or not options:
            return tuple(found)
        if options.get("link_error"):
            found = [linked(each, "link_error", options["link_error"]) for each in found]
        found[0] = overridden(
            found[0], {key: each for key, each in options.items() if key not in AS_A_WHOLE}
        )
        found[-1] = as_member(linked(found[-1], "link", options.get("link")), options)
        if options.get("task_id") is not None:
            found[-1] = defaulted(found[-1], {"task_id": options["task_id"]})
        return tuple(found)

    def _enter(self, visitor: StampingVisitor, given: dict[str, Any]) -> Stamps | None:
        return visitor.on_chain_start(self, **given)

    def _leave(self, visitor: StampingVisitor, given: dict[str, Any]) -> None:
        visitor.on_chain_end(self, **given)

    def _checked_policy(self, given: str) -> str:
        raise InvalidTaskError(
            f"a chain has no on_failure; say it of the group in it whose members may fail, as in "
            f"group(members, on_failure={given!r:.80})"
        )

    def set_immutable(self, immutable: bool = True) -> Self:
        """Return a copy whose first step takes no parent's result, or does."""
        return self._with_first(lambda first: first.set_immutable(immutable))

    def _for_members(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Self:
        return self._with_first(lambda first: first.clone(args, kwargs))

    def _with_first(self, change: Callable[[Signature[Any]], Signature[Any]]) -> Self:
        """Return a copy with another first step; an empty group is none."""
        tasks = list(self.tasks)
        for at, each in enumerate(tasks):
            if not is_nothing(each):
                tasks[at] = change(each)
                return self._with_tasks(tasks)
        return self

    def __repr__(self) -> str:
        return f"%{' | '.join(map(repr, self.tasks))}"


@Signature.register_type(GROUP)
class group(OfTasks):  # noqa: N801 - Celery's name
    """Calls that run side by side; its result is the list of theirs.

    Args:
        *tasks: The members, or one iterable of them. The members of a group in it are its own.
        on_failure: What a failed member means to what comes after the group; see `chord`.
        **options: Of all members, but for ``link``: called once, when all are done.
    """

    __slots__ = ()

    def __init__(self, *tasks: Any, on_failure: str | None = None, **options: Any) -> None:
        found = _signatures(tasks)
        if on_failure is not None:
            options[ON_FAILURE] = checked_policy(on_failure)
        super().__init__(
            "celery.group",
            kwargs={"tasks": found},
            options=options,
            subtask_type=GROUP,
            app=_app_of(found),
        )

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Return a copy whose members begin one after the other.

        Args:
            start: Seconds until the first begins.
            stop: Seconds that no member waits longer than; None: no bound.
            step: Seconds between two members.
        Raises: WrongTypeError: one of these is no number.
        """
        return self._with_tasks(
            each.set(countdown=countdown)
            for each, countdown in zip(self.tasks, countdowns(start, stop, step), strict=False)
        )

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it, with more arguments for all members."""
        return self.apply_async(args, **options)

    def set_immutable(self, immutable: bool = True) -> Self:
        """Return a copy whose members take no parent's result, or do."""
        return self._with_tasks(each.set_immutable(immutable) for each in self.tasks)

    def _then(self, other: Signature[Any]) -> Signature[Any]:
        if isinstance(other, group) and not other.tasks:
            return self
        return chord(self, other)

    def _enter(self, visitor: StampingVisitor, given: dict[str, Any]) -> Stamps | None:
        return visitor.on_group_start(self, **given)

    def _leave(self, visitor: StampingVisitor, given: dict[str, Any]) -> None:
        visitor.on_group_end(self, **given)

    def _for_members(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Self:
        return self._with_tasks(each.clone(args, kwargs) for each in self.tasks)

    def __repr__(self) -> str:
        return f"group({list(self.tasks)!r})"


@Signature.register_type(CHORD)
class chord(Composed):  # noqa: N801 - Celery's name
    """A group, and a body that is called with the list of its results once all are done.

    Args:
        header: The members of the group: a group, an iterable, or one signature.
        body: What to call. It may be given later, by calling the chord with it.
        on_failure: What a failed member means. ``"abort"``: the body fails at once, with a
            ChordError that names the member. ``"collect"``: the body gets an error record in its
            place: ``exc_type``, ``exc_message``, ``exc_module``. ``"ignore"``: it is left out.
            None: as the group says that is the header.
        interval: Taken since callers of Celery pass it; nothing polls here.
        max_retries: As `interval`.
        **options: Of the members and the body, but for ``link``, ``link_error``, ``task_id`` and
            ``countdown``: those of the body.
    """

    __slots__ = ()

    def __init__(
        self,
        header: Any,
        body: Any = None,
        *,
        on_failure: str | None = None,
        interval: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> None:
        members = _header(header)
        found = None if body is None else signature_of(body)
        if on_failure is not None:
            options[ON_FAILURE] = checked_policy(on_failure)
        elif (of_group := members.options.get(ON_FAILURE)) is not None:
            options[ON_FAILURE] = of_group
        bound = [members] if found is None else [members, found]
        super().__init__(
            "celery.chord",
            kwargs={"header": members, "body": found, "kwargs": {}},
            options=options,
            subtask_type=CHORD,
            app=_app_of(bound),
        )

    @property
    def tasks(self) -> tuple[Signature[Any], ...]:
        """The members of the header."""
        return self.header.tasks

    @property
    def header(self) -> group:
        """The group whose results the body gets."""
        return cast("group", self.kwargs["header"])

    @property
    def body(self) -> Signature[Any] | None:
        """What is called with the results."""
        return cast("Signature[Any] | None", self.kwargs["body"])

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with `body` in the place of its own."""
        called = self if body is None else self._with(body=signature_of(body))
        return called.apply_async(**options)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        interval: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Send it; see `Signature.apply_async`. `interval` and `max_retries` say nothing here."""
        return super().apply_async(args, kwargs, **options)

    def link(self, callback: Any) -> Self:
        """Return a copy whose body has `callback` called with its result."""
        return self._with(body=self._body().link(callback))

    def link_error(self, errback: Any) -> Self:
        """Return a copy that has `errback` called when its body, or one of its members, fails."""
        members = self.header._with_tasks(each.link_error(errback) for each in self.tasks)
        return self._with(header=members, body=self._body().link_error(errback))

    def set_immutable(self, immutable: bool = True) -> Self:
        """Return a copy the members of whose header take no parent's result, or do."""
        return self._with(header=self.header.set_immutable(immutable))

    def _then(self, other: Signature[Any]) -> Signature[Any]:
        if isinstance(other, group) and not other.tasks:
            return self
        # What it has as options is the body's as it is now, and not what comes after that.
        body, options = self._body(), dict(self.options)
        for name in LINKS:
            body = linked(body, name, options.pop(name, None))
        return self._changed(options=options)._with(body=body._then(other))

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        """Return a copy that is stamped: its header, then its body; see `Signature.stamp`."""
        check_visitor(visitor)
        given = named(headers)
        if visitor is not None:
            found = visitor.on_chord_header_start(self, **given)
            given = combined(given, named(found), append=append_stamps)
        copy = self.stamp_links(visitor, append_stamps, **given)
        header = self.header.stamp_links(visitor, append_stamps, **given)
        members = [each.stamp(visitor, append_stamps, **given) for each in self.tasks]
        copy = copy._with(header=header._with_tasks(members))
        if visitor is not None:
            visitor.on_chord_header_end(copy, **given)
        if self.body is None:
            return copy
        if visitor is not None:
            found = visitor.on_chord_body(copy, **given)
            given = combined(given, named(found), append=append_stamps)
        return copy._with(body=self.body.stamp(visitor, append_stamps, **given))

    def _body(self) -> Signature[Any]:
        if self.body is None:
            raise InvalidTaskError(
                "a chord needs a body: chord(header, body) or chord(header)(body)"
            )
        return self.body

    def _with(self, **changed: Any) -> Self:
        return self._changed(kwargs={**self.kwargs, **changed})

    def _for_members(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Self:
        return self._with(header=self.header.clone(args, kwargs))

    def _kwargs_as_dicts(self) -> dict[str, Any]:
        return {
            **self.kwargs,
            "header": self.header.to_dict(),
            "body": as_dict(self.body),
        }

    def _read_kwargs(self, task: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        body = raw.get("body")
        read = None if body is None else Signature.from_dict(body)
        try:
            return {**raw, "header": _header(raw.get("header")), "body": read}
        except InvalidTaskError as exc:
            raise DecodeError(f"'header' of signature {task!r}: {exc}") from exc

    def __len__(self) -> int:
        """Return how many parts its header has, as Celery counts them."""
        return sum(map(_parts, self.tasks))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"chord({list(self.tasks)!r}, {self.body!r})"


def is_nothing(signature: Signature[Any]) -> bool:
    """Tell whether there is nothing to run in it, as in an empty group."""
    return isinstance(signature, (chain, group)) and all(map(is_nothing, signature.tasks))


def _parts(signature: Signature[Any]) -> int:
    """Return how many results of `signature` the body of its chord gets, as Celery counts them."""
    if isinstance(signature, group):
        return sum(map(_parts, signature.tasks))
    if isinstance(signature, chord):
        return 1 if signature.body is None else _parts(signature.body)
    if isinstance(signature, chain):
        return next(filter(None, map(_parts, reversed(signature.tasks))), 0)
    return 1


def _header(given: Any) -> group:
    if isinstance(given, Mapping):
        given = Signature.from_dict(given)
    if isinstance(given, group):
        return given
    if isinstance(given, Signature):
        return group([given])
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return group(given)
    raise no_signature(given, " in the header of a chord")


def _signatures(given: tuple[Any, ...]) -> tuple[Signature[Any], ...]:
    """Return what `given` holds: signatures, or one iterable of them."""
    if len(given) == 1 and not isinstance(given[0], (Signature, Mapping, str)):
        if not isinstance(given[0], Iterable):
            raise no_signature(given[0])
        given = tuple(given[0])
    return tuple(map(signature_of, given))


def _app_of(signatures: Iterable[Signature[Any]]) -> Any:
    return next((each._app for each in signatures if each._app is not None), None)
