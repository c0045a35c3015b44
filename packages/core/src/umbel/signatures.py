"""A call of a task as a value: name, arguments and options, to be sent now or later.

Immutable: every modifier returns a copy. `Signature.to_dict` is Celery's JSON form, and
``from_dict(sig.to_dict()) == sig``. Chains, groups and chords (`umbel.canvas`) are signatures that
are made of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from umbel.argument_checks import (
    called,
    checked_app,
    keywords,
    no_signature,
    nothing_to_call,
    positional,
)
from umbel.errors import DecodeError
from umbel.readonly import ReadOnlyDict
from umbel.sendable import R_co, Sendable, SignatureSender
from umbel.signature_forms import HOLDERS, OWN_KEYS, listed
from umbel.stampable import Stampable
from umbel.stamps import merged_options

S = TypeVar("S", bound="type[Signature[Any]]")

_DICTS = ("kwargs", "options", "extra")


class Signature(Sendable[R_co], Stampable):
    """A call of the task named `task`.

    Args:
        task: The task, or its name.
        args: Positional arguments; a parent's result is put before them.
        kwargs: Keyword arguments.
        options: See `umbel.options.SendOptions`.
        immutable: A parent's result isn't put in, nor anything else that is given later.
        subtask_type: What kind of a composed signature it is; None: none.
        extra: Keys of other makers, kept as they are.
        app: Where it is sent; None: the current app, when it is sent. No part of its value.
        **more: More options.
    Raises: WrongTypeError: one of these is none.
    """

    __slots__ = (
        "_app", "args", "extra", "immutable", "kwargs", "options", "subtask_type", "task",
    )  # fmt: skip
    __hash__ = None  # type: ignore[assignment]  # it holds dicts and lists

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    immutable: bool
    subtask_type: str | None
    extra: dict[str, Any]
    _app: SignatureSender | None

    #: By `subtask_type`.
    TYPES: ClassVar[dict[str, type[Signature[Any]]]] = {}
    #: By task, of those without a `subtask_type`: Celery can't read one that it doesn't know.
    NAMED: ClassVar[dict[str, type[Signature[Any]]]] = {}

    def __init__(
        self,
        task: Any,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        subtask_type: str | None = None,
        extra: Mapping[str, Any] | None = None,
        app: SignatureSender | None = None,
        **more: Any,
    ) -> None:
        name = task if isinstance(task, str) and task else called(task)
        self._fill(
            task=name,
            args=args if type(args) is tuple else tuple(positional(name, args)),
            kwargs=keywords(name, kwargs),
            options=more if options is None else {**keywords(name, options, "options"), **more},
            immutable=immutable,
            subtask_type=subtask_type,
            extra={} if extra is None else keywords(name, extra, "extra"),
            _app=app,
        )

    def _fill(self, **fields: Any) -> None:
        put = object.__setattr__
        for name in _DICTS:
            put(self, name, ReadOnlyDict(fields.pop(name)))
        for name, value in fields.items():
            put(self, name, value)

    def _changed(self, **fields: Any) -> Self:
        """Return a copy with other `fields`; what it shares with this one can't be changed."""
        cls = type(self)
        copy = cls.__new__(cls)
        put = object.__setattr__
        put(copy, "task", self.task)
        put(copy, "args", self.args)
        put(copy, "kwargs", self.kwargs)
        put(copy, "options", self.options)
        put(copy, "immutable", self.immutable)
        put(copy, "subtask_type", self.subtask_type)
        put(copy, "extra", self.extra)
        put(copy, "_app", self._app)
        for name, value in fields.items():
            put(copy, name, ReadOnlyDict(value) if name in _DICTS else value)
        return copy

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"a signature can't be changed: {name!r} is set in a copy, as by set() or clone()"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[Any]:
        return Signature.from_dict(deepcopy(self.to_dict(), memo)).bound_to(self._app)

    # -- copies with changes ----------------------------------------------------------------------

    def clone(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Return a copy with `args` put before its own, and `kwargs` and `options` merged in.

        The new ones win, but for the group that it is a member of, and for stamps that it has.
        Of an immutable signature only the options change.
        """
        merged = merged_options(self.options, options) if options else self.options
        if self.immutable or not (args or kwargs):
            return self._changed(options=merged) if options else self._changed()
        return self._changed(
            args=(*positional(self.task, args), *self.args) if args else self.args,
            kwargs={**self.kwargs, **keywords(self.task, kwargs)} if kwargs else self.kwargs,
            options=merged,
        )

    partial = clone

    def set(self, *, immutable: bool | None = None, **options: Any) -> Self:
        """Return a copy with these options merged in, whatever it had."""
        copy = self._changed(options={**self.options, **options})
        return copy if immutable is None else copy.set_immutable(immutable)

    def set_immutable(self, immutable: bool = True) -> Self:
        """Return a copy that takes no parent's result, or does."""
        return self._changed(immutable=immutable)

    def replace(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a copy with other arguments or options in the place of its own; None: the same."""
        return self._changed(
            args=self.args if args is None else tuple(positional(self.task, args)),
            kwargs=self.kwargs if kwargs is None else keywords(self.task, kwargs),
            options=self.options if options is None else keywords(self.task, options, "options"),
        )

    def with_extra(self, **keys: Any) -> Self:
        """Return a copy with more keys of other makers in its JSON form."""
        return self._changed(extra={**self.extra, **keys})

    def bound_to(self, app: SignatureSender | None) -> Self:
        """Return a copy that is sent by `app`. Raises: WrongTypeError: that is no app."""
        return self._changed(_app=checked_app(app))

    def link(self, callback: Any) -> Self:
        """Return a copy that has `callback` called with its result. A repeat changes nothing."""
        return self._linked("link", callback)

    def link_error(self, errback: Any) -> Self:
        """Return a copy that has `errback` called when it fails. A repeat changes nothing."""
        return self._linked("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """Return what `link_error` does; reads well at the end of a composition."""
        return self.link_error(errback)

    def _linked(self, option: str, given: Any) -> Self:
        new = signature_of(given, f" as {option}")
        known = listed(self.options.get(option))
        if any(new == each for each in known):
            return self
        return self._changed(options={**self.options, option: [*known, new]})

    def flatten_links(self) -> list[Signature[Any]]:
        """Return this signature, its callbacks, their callbacks and so on."""
        links = [Signature.from_dict(each) for each in listed(self.options.get("link"))]
        return [self, *(found for each in links for found in each.flatten_links())]

    # -- operators --------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Signature[Any]:
        """Return a chain of both; what comes after a group is the body of a chord."""
        return self._then(signature_of(other, " after |"))

    def __ror__(self, other: Any) -> Signature[Any]:
        return signature_of(other, " before |")._then(self)

    def _then(self, other: Signature[Any]) -> Signature[Any]:
        both: Signature[Any] = Signature.TYPES["chain"].joined(self, other)  # type: ignore[attr-defined]
        return both

    # -- the dict form ----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return Celery's JSON form, with all that it is made of in the same form."""
        options = self.options
        if options and not HOLDERS.isdisjoint(options):
            options = {name: _as_dicts(name, value) for name, value in options.items()}
        return {
            **self.extra,
            "task": self.task,
            "args": list(self.args),
            "kwargs": self._kwargs_as_dicts(),
            "options": dict(options),
            "subtask_type": self.subtask_type,
            "immutable": self.immutable,
        }

    def _kwargs_as_dicts(self) -> dict[str, Any]:
        return dict(self.kwargs)

    @classmethod
    def from_dict(cls, raw: Any) -> Signature[Any]:
        """Read Celery's JSON form; the result's class is that of its `subtask_type`.

        Raises: DecodeError: a field is missing or of the wrong type; the text names it.
        """
        if isinstance(raw, Signature):
            return raw
        if type(raw) is not dict and not isinstance(raw, Mapping):
            hint = "; task.s() makes one of a task" if hasattr(raw, "signature") else ""
            raise DecodeError(f"a signature must be an object, not {raw.__class__.__name__}{hint}")
        task, args = raw.get("task"), raw.get("args")
        kwargs, options, kind = raw.get("kwargs"), raw.get("options"), raw.get("subtask_type")
        if not isinstance(task, str) or not task:
            raise DecodeError(f"a signature's 'task' must be a name, not {task!r:.80}")
        if args is not None and not isinstance(args, (list, tuple)):
            raise DecodeError(f"'args' of signature {task!r} must be a list, not {args!r:.80}")
        for name, value in (("kwargs", kwargs), ("options", options)):
            if type(value) is not dict and value is not None and not isinstance(value, Mapping):
                raise DecodeError(f"{name!r} of signature {task!r} must be an object")
        if isinstance(kind, str):
            of_kind = Signature.TYPES.get(kind, Signature)
        else:
            of_kind = Signature.NAMED.get(task, Signature)
        read = of_kind.__new__(of_kind)
        put = object.__setattr__
        put(read, "task", task)
        put(read, "args", tuple(args or ()))
        put(read, "kwargs", ReadOnlyDict(read._read_kwargs(task, kwargs or {})))
        put(read, "options", ReadOnlyDict(options or {}))
        put(read, "immutable", bool(raw.get("immutable")))
        put(read, "subtask_type", kind)
        is_ours = OWN_KEYS.issuperset(raw)
        extra = () if is_ours else ((key, raw[key]) for key in raw if key not in OWN_KEYS)
        put(read, "extra", ReadOnlyDict(extra))
        put(read, "_app", None)
        return read

    def _read_kwargs(self, task: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the JSON form. Raises: DecodeError."""
        return dict(raw)

    @classmethod
    def register_type(cls, name: str) -> Callable[[S], S]:
        """Return a decorator for the class of signatures of the `subtask_type` `name`."""

        def register(of_kind: S) -> S:
            Signature.TYPES[name] = of_kind
            return of_kind

        return register

    @classmethod
    def register_name(cls, task: str) -> Callable[[S], S]:
        """Return a decorator for the class of signatures of `task` without a `subtask_type`."""

        def register(of_task: S) -> S:
            Signature.NAMED[task] = of_task
            return of_task

        return register

    def __json__(self) -> dict[str, Any]:
        return self.to_dict()

    def __reduce__(self) -> Any:
        return Signature.from_dict, (self.to_dict(),)

    def __getitem__(self, key: str) -> Any:
        """Return a key of the JSON form, as Celery's signatures, which are dicts, do."""
        return self.to_dict()[key]

    def keys(self) -> Iterable[str]:
        """Return the keys of the JSON form: ``dict(sig)`` is that form."""
        return self.to_dict().keys()

    #: It is no iterable: neither of its keys nor of what it is made of.
    __iter__ = None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a key of the JSON form, or `default`."""
        return self.to_dict().get(key, default)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Signature):
            return self is other or self.to_dict() == other.to_dict()
        return self.to_dict() == other if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        shown = [repr(each) for each in self.args]
        shown += [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"


def _as_dicts(name: str, value: Any) -> Any:
    """Return an option with the signatures in it in their JSON form."""
    if name not in HOLDERS:
        return value
    if isinstance(value, (list, tuple)):
        return [as_dict(each) for each in value]
    return as_dict(value)


def as_dict(value: Any) -> Any:
    """Return a signature in its JSON form; anything else as it is."""
    return value.to_dict() if isinstance(value, Signature) else value


def signature_of(given: Any, where: str = "") -> Signature[Any]:
    """Return a signature, or that of a JSON form.

    Args:
        given: That.
        where: The place where it stands, for the error.
    Raises: WrongTypeError: it is neither. DecodeError: the form can't be read.
    """
    if not isinstance(given, (Signature, Mapping)):
        raise no_signature(given, where)
    return Signature.from_dict(given)


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """Return a signature: of a task or its name, or read from its JSON form.

    Args:
        varies: A task, its name, a signature (a copy is made), or the JSON form of one.
        *args: As of `Signature`, for a task or name.
        **kwargs: As of `Signature`, for a task or name; `app` for all.
    Raises: WrongTypeError: `varies` is none of these. DecodeError: the form can't be read.
    """
    if isinstance(varies, (Signature, Mapping)):
        read = Signature.from_dict(varies)
        return read if kwargs.get("app") is None else read.bound_to(kwargs["app"])
    if isinstance(varies, str):
        checked_app(kwargs.get("app"))
        return Signature(varies, *args, **kwargs)
    if not hasattr(varies, "signature"):
        raise nothing_to_call(varies)
    app = kwargs.pop("app", None)
    made: Signature[Any] = varies.signature(*args, **kwargs)
    return made if app is None else made.bound_to(app)


def maybe_signature(
    given: Any,
    app: Any = None,
    clone: bool = False,  # noqa: ARG001 - callers of Celery pass it; nothing can be changed here
) -> Signature[Any] | None:
    """Return a signature for what may be one already, the JSON form of one, or None.

    Args:
        given: That.
        app: What sends it; None: as it says.
        clone: No matter.
    """
    return None if given is None else signature(given, app=app)


subtask = signature
