"""One task, called for each of many items: `xmap`, `xstarmap` and `chunks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from umbel.argument_checks import items
from umbel.canvas.primitives import group
from umbel.errors import InvalidTaskError, WrongTypeError
from umbel.signatures import Signature, signature


class _OfItems(Signature[Any]):
    """A call of one of the tasks that call another for each item."""

    __slots__ = ()

    def __init__(
        self,
        name: str,
        kind: str,
        task: Any,
        it: Iterable[Any],
        options: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        called = signature(task)
        super().__init__(
            name,
            kwargs={"task": called.to_dict(), "it": list(items(kind, it)), **kwargs},
            options=options,
            immutable=True,
            subtask_type=kind,
            app=called._app,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it."""
        return self.apply_async(args, kwargs)


@Signature.register_type("xmap")
class xmap(_OfItems):  # noqa: N801 - Celery's name
    """One message: calls `task` with each item of `it`, in turn; its result is the list.

    Args:
        task: A task or signature. The message is routed as one of its calls would be.
        it: Its arguments, one a call.
        **options: As of a signature.
    """

    __slots__ = ()

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        super().__init__("celery.map", "xmap", task, it, options)


@Signature.register_type("xstarmap")
class xstarmap(_OfItems):  # noqa: N801 - Celery's name
    """One message: calls `task` with the arguments that each item of `it` holds, in turn.

    Args:
        task: A task or signature.
        it: Lists or tuples of arguments.
        **options: As of a signature.
    """

    __slots__ = ()

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        super().__init__("celery.starmap", "xstarmap", task, it, options)
        _check_arguments("starmap", self.kwargs["it"])


@Signature.register_type("chunks")
class chunks(_OfItems):  # noqa: N801 - Celery's name
    """A `xstarmap` for every `n` items. Called, it sends them; `apply_async` has a worker do so.

    Args:
        task: A task or signature.
        it: Lists or tuples of arguments.
        n: Items in each piece.
        **options: As of a signature.
    """

    __slots__ = ()

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        if type(n) is not int:
            raise WrongTypeError(f"chunks need a size of 1 or more, not {n!r:.80}")
        if n < 1:
            raise InvalidTaskError(f"chunks need a size of 1 or more, not {n!r:.80}")
        super().__init__("celery.chunks", "chunks", task, it, options, n=n)
        _check_arguments("chunks", self.kwargs["it"])

    def group(self) -> group:
        """Return the pieces as members of a group."""
        return group(self._pieces(), **self.options).bound_to(self._app)

    def _pieces(self) -> Iterator[xstarmap]:
        items = iter(self.kwargs["it"])
        while piece := list(islice(items, self.kwargs["n"])):
            made = xstarmap(self.kwargs["task"], piece)
            yield made.bound_to(self._app)

    def __call__(self, **options: Any) -> Any:
        """Send the pieces from here; their group's result."""
        return self.group().apply_async(**options)

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int) -> Any:
        """Send `it` in pieces from here; their group's result."""
        return cls(task, it, n)()


def _check_arguments(what: str, it: list[Any]) -> None:
    """Raise WrongTypeError for an item that holds no arguments; a text would be torn apart."""
    for kind in set(map(type, it)):
        if issubclass(kind, (str, bytes, Mapping)) or not issubclass(kind, Iterable):
            wrong = next(each for each in it if type(each) is kind)
            raise WrongTypeError(
                f"{what}: each item is a list or tuple of arguments, not {wrong!r:.80}; "
                f"zip(it) makes such of single ones"
            )
