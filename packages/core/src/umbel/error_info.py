"""Exceptions made into data, and data made back into exceptions, in Celery's JSON form.

What names a class comes from outside. Nothing is imported for it, nothing is called to find it,
and what is found is only called if it is an ordinary exception class (CVE-2021-23727 was the
lack of that check): a class must be loaded here already, else `RemoteTaskError` stands for it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from math import isfinite
from types import MappingProxyType, TracebackType
from typing import Any, TypeAlias
from uuid import UUID

from umbel import errors
from umbel.errors import RemoteTaskError, TaskSignal
from umbel.outcomes import ErrorInfo
from umbel.redaction import mask_text

#: Which exception classes may be rebuilt, besides umbel's and Python's own: a predicate, or a
#: list of classes (their subclasses count) and of patterns of dotted names
#: (``"proj.errors.*"``). An empty list: all that are loaded.
Allowed: TypeAlias = Callable[[type[BaseException]], bool] | Sequence[str | type[BaseException]]

#: Characters kept of a traceback or of one text among an exception's arguments.
MAX_TEXT = 64 * 1024
#: Characters kept of a repr.
MAX_REPR = 1024
#: Characters, roughly, that all arguments of an exception may have together.
MAX_ARGUMENTS = 4 * MAX_TEXT
_ALWAYS_ALLOWED = frozenset({"builtins", "umbel.errors"})
_MAX_DEPTH = 20
_MAX_BITS = 10_000  # Python writes ints of up to 4300 digits, some 14,000 bits

_CELERY, _BILLIARD, _KOMBU = "celery.exceptions", "billiard.exceptions", "kombu.exceptions"
#: Our classes as Celery's clients know them.
_WIRE_NAMES: Mapping[type[BaseException], tuple[str, str]] = MappingProxyType(
    {
        errors.UnknownTaskError: ("NotRegistered", _CELERY),
        errors.AlreadyRegisteredError: ("AlreadyRegistered", _CELERY),
        errors.ConfigError: ("ImproperlyConfigured", _CELERY),
        errors.InvalidTaskError: ("InvalidTaskError", _CELERY),
        errors.TaskRevokedError: ("TaskRevokedError", _CELERY),
        errors.MaxRetriesExceededError: ("MaxRetriesExceededError", _CELERY),
        errors.ChordError: ("ChordError", _CELERY),
        errors.ResultTimeoutError: ("TimeoutError", _CELERY),
        errors.Retry: ("Retry", _CELERY),
        errors.Ignore: ("Ignore", _CELERY),
        errors.Reject: ("Reject", _CELERY),
        errors.SoftTimeLimitExceeded: ("SoftTimeLimitExceeded", _BILLIARD),
        errors.TimeLimitExceeded: ("TimeLimitExceeded", _BILLIARD),
        errors.WorkerLostError: ("WorkerLostError", _BILLIARD),
        errors.SerializationError: ("SerializationError", _KOMBU),
        errors.EncodeError: ("EncodeError", _KOMBU),
        errors.DecodeError: ("DecodeError", _KOMBU),
        errors.ContentDisallowedError: ("ContentDisallowed", _KOMBU),
    }
)
_OUR_CLASSES: Mapping[tuple[str, str], type[BaseException]] = MappingProxyType(
    {wire: cls for cls, wire in _WIRE_NAMES.items()}
)
_EXTENDED = frozenset({datetime, date, time, Decimal, UUID})


def error_info(exc: BaseException, *, with_traceback: bool = True) -> ErrorInfo:
    """Return `exc` as data that JSON can hold. Never raises, and keeps no frame alive.

    Passwords in URLs are masked, long texts shortened. Chained exceptions are in the traceback.
    """
    text = _traceback_text(exc) if with_traceback else None
    summary = _repr(exc)
    if isinstance(exc, RemoteTaskError):  # another task's error, passed on: it keeps its name
        parts = _Arguments().plain_list(exc.exc_args)
        return ErrorInfo(exc.exc_type, exc.exc_module, parts, text, summary)
    cls = type(exc)
    name, module = _WIRE_NAMES.get(cls) or (cls.__qualname__, cls.__module__)
    try:
        args = exc.args
    except Exception:  # noqa: BLE001 - a property of the user's
        args = ()
    return ErrorInfo(name, module, _Arguments().plain_list(args), text, summary)


def rebuild(info: ErrorInfo, *, allowed: Allowed = ()) -> BaseException:
    """Return a new exception for `info`, to be raised where the result is read.

    Its class is the original one where that is loaded in this process, is an Exception (no
    SystemExit, no KeyboardInterrupt, no signal such as Retry) and is `allowed`; else
    RemoteTaskError. The traceback of the worker is its attribute ``remote_traceback`` and one
    of its notes. Imports nothing; never raises.
    """
    cls = _find_class(info.exc_type, info.exc_module)
    exc: BaseException | None = None
    if cls is not None and _is_allowed(cls, allowed):
        exc = _construct(cls, tuple(info.exc_message))
    if exc is None:
        exc = RemoteTaskError(info.exc_type, info.exc_module, info.exc_message)
    # Past any __setattr__ of the class: frozen dataclasses can be exceptions, too.
    BaseException.__setattr__(exc, "remote_traceback", info.traceback)
    if info.traceback:
        note = f"remote traceback:\n{info.traceback.rstrip()}"
        BaseException.__setattr__(exc, "__notes__", [note])
    return exc


def _find_class(name: str, module: str | None) -> type[Exception] | None:
    """Return the exception class of that name, if it is loaded and may be raised here."""
    found: Any = _OUR_CLASSES.get((name, module or ""))
    if found is None:
        # Only __dict__ is looked at: getattr could run code, or import (PEP 562).
        owner: Any = sys.modules.get(module or "builtins")
        for part in name.split("."):
            found = _namespace(owner).get(part)
            if not issubclass(type(found), type):
                return None
            owner = found
    if not issubclass(found, Exception):
        return None
    if issubclass(found, (TaskSignal, StopIteration, StopAsyncIteration)):
        return None  # these would steer the reader: a task's outcome, a loop, a coroutine
    cls: type[Exception] = found
    return cls


def _namespace(owner: Any) -> Mapping[str, Any]:
    if issubclass(type(owner), type):
        return type.__dict__["__dict__"].__get__(owner)  # type: ignore[no-any-return]
    try:
        names = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return {}
    return names if isinstance(names, dict) else {}


def _is_allowed(cls: type[Exception], allowed: Allowed) -> bool:
    try:
        if not allowed or cls.__module__ in _ALWAYS_ALLOWED:
            return True
        if callable(allowed):
            return bool(allowed(cls))
        entries = (allowed,) if isinstance(allowed, str) else allowed
        path = f"{cls.__module__}.{cls.__qualname__}"
        return any(
            fnmatchcase(path, entry) if isinstance(entry, str) else issubclass(cls, entry)
            for entry in entries
        )
    except Exception:  # noqa: BLE001 - what can't be judged isn't allowed
        return False


def _construct(cls: type[Exception], args: tuple[Any, ...]) -> Exception | None:
    """Return an instance of `cls` whose args are `args`; None: it can't be made."""
    made: Any
    try:
        made = cls(*args)
    except Exception:  # noqa: BLE001 - many constructors take something else than args
        try:
            made = cls.__new__(cls, *args)
        except Exception:  # noqa: BLE001
            return None
    if not isinstance(made, Exception):  # a __new__ of the class's own
        return None
    with suppress(Exception):  # `args` may be a property of the user's
        if made.args != args:  # it words its message itself: "no x" would become "no no x"
            made.args = args
    return made


def _traceback_text(exc: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(exc), exc, _without_umbel(exc.__traceback__))
        return _bounded("".join(lines))
    except Exception as failed:  # noqa: BLE001 - a broken __str__, a source file that isn't text
        return f"{type(exc).__qualname__}: no traceback ({type(failed).__name__})\n"


def _without_umbel(found: TracebackType | None) -> TracebackType | None:
    """Skip the frames of the worker above the task's own; all are kept where there is no other."""
    tb = found
    while tb is not None:
        module = tb.tb_frame.f_globals.get("__name__")
        if not (isinstance(module, str) and module.startswith("umbel.")):
            return tb
        tb = tb.tb_next
    return found


def _bounded(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` fit to be stored: passwords masked, its middle left out if it is long."""
    size = len(text)
    if size > 4 * limit:  # masking comes first, but not at any cost
        text = text[: 2 * limit] + text[-2 * limit :]
    text = mask_text(text)
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {size - 2 * half} characters left out …\n{text[-half:]}"
    if not text.isascii():
        # No codec but JSON's escapes takes lone surrogates (names of files, mostly).
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a broken __repr__
        text = f"<{type(value).__qualname__} whose repr raises {type(exc).__name__}>"
    return _bounded(text, MAX_REPR)


class _Arguments:
    """Turns an exception's arguments into what JSON (with Celery's extended types) can hold.

    What it can't hold stands as its repr, and so does what goes beyond the bounds.
    """

    def __init__(self) -> None:
        self._room = MAX_ARGUMENTS

    def plain_list(self, values: Any, depth: int = 0) -> list[Any]:
        """Return the plain forms of `values`."""
        out: list[Any] = []
        for value in values:
            self._room -= 8
            if self._room < 0:
                out.append("…")
                break
            out.append(self._plain(value, depth))
        return out

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind in _EXTENDED:
            return value
        if kind is int and value.bit_length() <= _MAX_BITS:
            return value
        if kind is float and isfinite(value):
            return value
        if kind is bytes and len(value) <= min(MAX_TEXT, self._room):
            self._room -= len(value)
            return value
        if depth < _MAX_DEPTH and kind in (list, tuple):
            return self.plain_list(value, depth + 1)
        if depth < _MAX_DEPTH and kind is dict and self._fits(value):
            plain = self.plain_list(value.values(), depth + 1)
            return dict(zip(map(_bounded, value), plain, strict=False))
        text = _bounded(value) if kind is str else _repr(value)
        self._room -= len(text)
        return text

    def _fits(self, value: dict[Any, Any]) -> bool:
        """Tell whether `value` can stand as a JSON object, and isn't one that means more."""
        return all(type(key) is str for key in value) and "__type__" not in value
