"""Arguments: checked against the function at the call, and given the types it is annotated with.

On the way out, values of annotated classes (dataclasses, pydantic models, msgspec structs, enums,
sets) become what a serializer can hold. In the worker they are made and validated again. A task
whose annotations need none of this pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.errors import TaskArgumentsError, near_matches
from umbel.requests import current_request

if TYPE_CHECKING:
    from inspect import Parameter

    from umbel.tasks.conversion import Dump, Load

# `inspect.Parameter.kind` as numbers: inspect takes long to import, and is only when a first call
# is checked.
_POSITIONAL_ONLY, _EITHER, _REST, _KEYWORD_ONLY, _REST_KEYWORDS = range(5)
_POSITIONAL = (_POSITIONAL_ONLY, _EITHER)


class ArgumentCheck:
    """Checks calls of one function without running it. Much quicker than `Signature.bind`."""

    __slots__ = ("_by_name", "_max", "_most", "_name", "_positional", "_required", "_takes_kwargs")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        parameters = signature_of(function).values()
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        kinds = {each.kind for each in parameters}
        self._name = name
        self._positional = tuple(each.name for each in positional)
        #: How many positional arguments are taken, and how many a call without keywords needs.
        self._most = None if _REST in kinds else len(positional)
        self._by_name = frozenset(
            each.name for each in parameters if each.kind in (_EITHER, _KEYWORD_ONLY)
        )
        self._takes_kwargs = _REST_KEYWORDS in kinds
        self._required = tuple(
            each.name
            for each in parameters
            if each.default is each.empty and each.kind not in (_REST, _REST_KEYWORDS)
        )
        needs_keyword = any(name not in self._positional for name in self._required)
        least = len([each for each in positional if each.default is each.empty])
        #: Numbers of arguments that are right when there are no keywords.
        self._max = range(0) if needs_keyword else range(least, len(positional) + 1)

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TaskArgumentsError where the function can't be called like this."""
        if not kwargs and len(args) in self._max:
            return
        problem = self._problem(len(args), kwargs)
        if problem is not None:
            raise TaskArgumentsError(f"task {self._name!r} {problem}")

    def _problem(self, count: int, kwargs: Mapping[str, Any]) -> str | None:
        """Say what is wrong, naming the argument; None: nothing is."""
        if self._most is not None and count > self._most:
            takes = f"{self._most} positional argument{'' if self._most == 1 else 's'}"
            return f"takes {takes} ({', '.join(self._positional) or 'none'}) but {count} were given"
        given = self._positional[:count]
        for name in kwargs:
            if name in given and name in self._by_name:
                return f"got more than one value for argument {name!r}"
            if name not in self._by_name and not self._takes_kwargs:
                close = near_matches(str(name), self._by_name, limit=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                return f"got an unexpected keyword argument {name!r}{hint}"
        missing = [name for name in self._required if name not in given and name not in kwargs]
        if missing:
            plural = "" if len(missing) == 1 else "s"
            return f"is missing argument{plural} {', '.join(map(repr, missing))}"
        return None


def plain_call(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Make all arguments serializable, whatever their annotations; None stays None."""
    from umbel.tasks.conversion import plain  # noqa: PLC0415 - dataclasses take long to import

    return (
        None if args is None else [plain(value) for value in args],
        None if kwargs is None else {name: plain(value) for name, value in kwargs.items()},
    )


def signature_of(function: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Return the parameters of `function`; those of a callable without any are ``*a, **k``."""
    import inspect  # noqa: PLC0415 - see above

    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):  # built in C, without a signature
        return inspect.signature(_anything).parameters


def _unwrapped(function: Callable[..., Any]) -> Any:
    """Return what decorators stand around, by ``__wrapped__``."""
    found: Any = getattr(function, "__func__", function)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return found


def _anything(*args: Any, **kwargs: Any) -> None:
    """Take any arguments, as far as `inspect` can tell."""


class Converters(NamedTuple):
    """How the annotated arguments and the return value of one function travel."""

    task: str
    positional: tuple[str, ...]
    #: By parameter; the names of ``*args`` and ``**kwargs`` stand for all that go there.
    dumps: Mapping[str, Dump]
    loads: Mapping[str, Load]
    rest: str | None
    rest_keywords: str | None
    dump_result: Dump | None
    #: Makes a return value what it is annotated as again, where it is read.
    load_result: Load | None
    #: Parameters annotated as `Request`: they get the running request.
    injected: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: str, function: Callable[..., Any]) -> Converters | None:
        """Return the converters of `function`; None where nothing needs any."""
        target = _unwrapped(function)
        annotations = getattr(target, "__annotations__", {})
        if not annotations:
            return None
        from umbel.tasks.conversion import (  # noqa: PLC0415 - dataclasses take long to import
            converter_for,
            is_request,
        )

        scope = getattr(target, "__globals__", {})
        injected = tuple(
            name
            for name, annotation in annotations.items()
            if name != "return" and is_request(annotation, scope)
        )
        found = {
            name: converter
            for name, annotation in annotations.items()
            if name not in injected and (converter := converter_for(annotation, scope)) is not None
        }
        if not found and not injected:
            return None
        parameters = signature_of(function)
        kinds: dict[int, str] = {each.kind: each.name for each in parameters.values()}
        result = found.pop("return", None)
        return cls(
            task=task,
            positional=tuple(each.name for each in parameters.values() if each.kind in _POSITIONAL),
            dumps={name: converter.dump for name, converter in found.items()},
            loads={name: converter.load for name, converter in found.items()},
            rest=kinds.get(_REST),
            rest_keywords=kinds.get(_REST_KEYWORDS),
            dump_result=result.dump if result is not None else None,
            load_result=result.load if result is not None else None,
            injected=injected,
        )

    def dump(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Make arguments serializable; what doesn't fit its annotation stays as it is."""
        return self._apply(self.dumps, args, kwargs)

    def load(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Give arguments the types they are annotated with.

        Raises: TaskArgumentsError: one can't be that; the text names it.
        """
        new_args, new_kwargs = self._apply(self.loads, args, kwargs)
        if self.injected:
            given = self.positional[: len(args)]
            request = current_request()
            new_kwargs.update((name, request) for name in self.injected if name not in given)
        return new_args, new_kwargs

    def _apply(
        self,
        converters: Mapping[str, Callable[[Any], Any]],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        new_args, known = list(args), len(self.positional)
        for index, value in enumerate(args):
            name = self.positional[index] if index < known else self.rest
            if name is not None and name in converters:
                new_args[index] = self._convert(converters[name], name, value)
        new_kwargs = dict(kwargs)
        for name, value in kwargs.items():
            key = name if name in converters else self.rest_keywords
            if key is None or key not in converters:
                continue
            if key == name or name not in self.positional:
                new_kwargs[name] = self._convert(converters[key], name, value)
        return new_args, new_kwargs

    def _convert(self, convert: Callable[[Any], Any], name: str, value: Any) -> Any:
        try:
            return convert(value)
        except ValueError as exc:  # msgspec's and pydantic's errors are such
            text = f"argument {name!r} of task {self.task!r} isn't what it is annotated as: {exc}"
            raise TaskArgumentsError(text) from exc
