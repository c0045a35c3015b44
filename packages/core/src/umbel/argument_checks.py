"""What callers give, looked at where they give it: errors name the value, and what to give instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from umbel.errors import WrongTypeError


def positional(task: str, given: Iterable[Any] | None) -> Sequence[Any]:
    """Return positional arguments; of None, none.

    Args:
        task: Name of the task that they are for.
        given: A list, a tuple, or anything else that yields them.
    Raises: WrongTypeError: it is none of these. A text isn't either: it would be torn apart.
    """
    if isinstance(given, (tuple, list)):
        return given
    if given is None:
        return ()
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise WrongTypeError(
            f"task {task!r}: args must be a list or tuple, not {given!r:.80}; "
            f"for one argument write ({given!r:.20},)"
        )
    return tuple(given)


def keywords(task: str, given: Mapping[str, Any] | None, name: str = "kwargs") -> Mapping[str, Any]:
    """Return keyword arguments of `task`, or its options, as `name` says; of None, none.

    Raises: WrongTypeError: they are no mapping.
    """
    if type(given) is dict:  # nearly always
        return given
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise WrongTypeError(f"task {task!r}: {name} must be a dict, not {given!r:.80}")
    return given


def items(what: str, given: Iterable[Any]) -> Iterable[Any]:
    """Return `given`. Raises: WrongTypeError: there is nothing to go through in it."""
    if not isinstance(given, Iterable):
        raise WrongTypeError(f"{what}: a list of items is wanted, not {given!r:.80}")
    return given


def number(what: str, given: Any) -> float:
    """Return a number. Raises: WrongTypeError: it is none, or not finite."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise WrongTypeError(f"{what} must be a number, not {given!r:.80}")
    return given


def seconds_or_none(what: str, given: Any) -> float | None:
    """Return seconds to wait; None: no bound. Raises: WrongTypeError: it is no number."""
    if given is None or (isinstance(given, (int, float)) and given == given):  # noqa: PLR0124 - not NaN
        return given
    raise WrongTypeError(f"{what} must be seconds or None, not {given!r:.80}")


def text(what: str, given: Any) -> str:
    """Return a text that isn't empty. Raises: WrongTypeError: it is none."""
    if not isinstance(given, str) or not given:
        raise WrongTypeError(f"{what} must be text, not {given!r:.80}")
    return given


def check_callbacks(callback: Any, on_error: Any) -> None:
    """Raise WrongTypeError unless `callback` can be called, and so `on_error` if there is one."""
    for name, given in (("callback", callback), ("on_error", on_error)):
        if not callable(given) and (given is not None or name == "callback"):
            raise WrongTypeError(f"{name} must be a function, not {given!r:.80}")


def no_signature(given: Any, where: str = "") -> WrongTypeError:
    """Return the error for what stands where a signature is wanted.

    Args:
        given: What stands there.
        where: The place, such as ``" after |"``.
    """
    hint = ""
    if hasattr(given, "as_tuple"):
        hint = "; that is a result, so the call was sent already: give add.s(2), not add.delay(2)"
    elif hasattr(given, "signature"):
        hint = "; task.s() makes one of a task"
    return WrongTypeError(
        f"a signature is wanted{where}, such as task.s(), not {given!r:.80}{hint}"
    )


def called(task: Any) -> str:
    """Return the name of a task. Raises: WrongTypeError: `task` has none, or is a result."""
    name = getattr(task, "name", None)
    if not isinstance(name, str) or not name or hasattr(task, "as_tuple"):
        raise nothing_to_call(task)
    return name


def checked_app(given: Any) -> Any:
    """Return an app, or None. Raises: WrongTypeError: it can't send signatures."""
    if given is not None and not hasattr(given, "apply_signature"):
        raise WrongTypeError(f"an app is wanted, which sends the signature, not {given!r:.80}")
    return given


def nothing_to_call(given: Any) -> WrongTypeError:
    """Return the error for what no signature can be made of."""
    return WrongTypeError(
        f"a signature is made of a task, its name or the JSON form of one, not of {given!r:.80}"
    )


def no_result(given: Any) -> WrongTypeError:
    """Return the error for what stands where a result is wanted."""
    hint = ""
    if isinstance(given, str):
        hint = f"; app.AsyncResult({given!r:.80}) makes one of an id"
    elif hasattr(given, "apply_async"):
        hint = "; that is a call that wasn't sent yet: give what its apply_async() returns"
    return WrongTypeError(f"a result is wanted, as task.delay() returns, not {given!r:.80}{hint}")
