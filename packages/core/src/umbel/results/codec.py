"""Celery's result document: what a backend keeps of a task, as bytes and back.

A return value arrives encoded already (umbel.outcomes) and is spliced into the document where
the serializer writes JSON, so that nothing is encoded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET

from umbel.clock import parse_iso, to_iso
from umbel.errors import DecodeError, ResultTooLargeError
from umbel.interfaces.serializer import Serializer
from umbel.outcomes import ErrorInfo

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class _Document(msgspec.Struct):
    """The document in Celery's order; what is UNSET isn't written."""

    status: str
    result: msgspec.Raw
    traceback: str | None
    children: Any
    date_done: str | None
    group_id: str | msgspec.UnsetType
    parent_id: str | msgspec.UnsetType
    task_id: str | msgspec.UnsetType


class ResultDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored for a task."""

    #: Empty where the document doesn't say; its key does.
    task_id: str
    status: str
    #: The value; the error's fields after a failure; meta data in a state of the task's own.
    result: Any = None
    traceback: str | None = None
    #: Result tuples of what the task sent.
    children: list[Any] | None = None
    #: Unix seconds; None until it is over.
    date_done: float | None = None
    parent_id: str | None = None
    group_id: str | None = None
    # With result_extended:
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    #: All other keys, stamps among them.
    extra: dict[str, Any] = {}

    @property
    def error(self) -> ErrorInfo | None:
        """The error that `result` tells of; None where it is none."""
        raw = self.result
        if not isinstance(raw, dict) or not isinstance(raw.get("exc_type"), str):
            return None
        module, message = raw.get("exc_module"), raw.get("exc_message")
        if message is None:
            message = []
        elif not isinstance(message, (list, tuple)):
            message = [message]  # as Celery 4 wrote it
        return ErrorInfo(
            raw["exc_type"],
            module if isinstance(module, str) else None,
            list(message),
            self.traceback,
        )


def encode_result(
    *,
    task_id: str,
    state: str,
    value: bytes | None = None,
    error: ErrorInfo | None = None,
    meta: Any = None,
    children: list[Any] | None = None,
    date_done: float | None = None,
    parent_id: str | None = None,
    group_id: str | None = None,
    extended: Mapping[str, Any] | None = None,
    serializer: Serializer,
) -> bytes:
    """Return the document of one result in the bytes of `serializer`.

    Of `value`, `error` and `meta`, the first that isn't None is the document's ``result``.

    Args:
        value: The return value, encoded by `serializer`.
        error: What went wrong; its traceback goes along.
        meta: Any value, for STARTED and for states of the task's own.
        children: Result tuples of what the task sent.
        date_done: Unix seconds; None in states that aren't ready.
        extended: name, args, kwargs, worker, retries, queue; stamps.
    Raises: EncodeError: `meta` or `extended` can't be encoded.
    """
    if extended and not _FIXED_KEYS.isdisjoint(extended):  # a stamp may have any name
        extended = {key: each for key, each in extended.items() if key not in _FIXED_KEYS}
    done = None if date_done is None else _iso(date_done)
    traceback = None if error is None else error.traceback
    if serializer.content_type == JSON:
        spliced = serializer.dumps(_result(error, meta)) if value is None else value
        document = _Document(
            state,
            msgspec.Raw(spliced),
            traceback,
            children,
            done,
            UNSET if group_id is None else group_id,
            UNSET if parent_id is None else parent_id,
            UNSET if extended else task_id,
        )
        try:
            return _with_extended(document, task_id, extended, serializer)
        except UnicodeEncodeError:  # a lone surrogate in an id or traceback; JSON can escape it
            pass
    fields: dict[str, Any] = {
        "status": str(state),
        "result": _result(error, meta) if value is None else serializer.loads(value),
        "traceback": traceback,
        "children": children,
        "date_done": done,
    }
    links = {"group_id": group_id, "parent_id": parent_id}
    fields.update((key, link) for key, link in links.items() if link is not None)
    return serializer.dumps({**fields, **(extended or {}), "task_id": task_id})


def result_too_large(task: str, size: int, limit: int) -> ResultTooLargeError:
    """Return the error of a value that takes `size` bytes."""
    return ResultTooLargeError(
        f"the result of task {task!r} takes {size} bytes, which is over result_max_bytes ({limit}); "
        f"store the data elsewhere and return a reference to it"
    )


def _with_extended(
    document: _Document, task_id: str, extended: Mapping[str, Any] | None, serializer: Serializer
) -> bytes:
    """Encode `document`, with `extended` between its fields and the id."""
    data = _encode(document)
    if not extended:
        return data
    more = serializer.dumps(dict(extended))
    return b'%b,%b,"task_id":%b}' % (data[:-1], more[1:-1], _encode(task_id))


def decode_result(body: bytes, serializer: Serializer) -> ResultDocument:
    """Read a document that umbel or Celery wrote.

    Raises: DecodeError: malformed, or a field is missing or of the wrong type; the text names it.
    """
    raw = serializer.loads(body)
    if not isinstance(raw, dict):
        raise DecodeError(f"a result must be an object, not {type(raw).__name__}")
    if (plain := _plain_document(raw)) is not None:
        return plain
    fields: dict[str, Any] = {}
    for name, kinds in _KINDS.items():
        value = raw.get(name)
        if value is None:
            continue
        if not isinstance(value, kinds) or (kinds is int and isinstance(value, bool)):
            raise DecodeError(
                f"{name!r} of result {str(raw.get('task_id'))!r:.80} must be "
                f"{kinds[0].__name__ if isinstance(kinds, tuple) else kinds.__name__}, "
                f"not {value!r:.80}"
            )
        fields[name] = value
    if "status" not in fields:
        raise DecodeError(f"result {str(raw.get('task_id'))!r:.80} has no 'status'")
    fields.setdefault("task_id", "")
    if "date_done" in fields:
        fields["date_done"] = _instant(fields["date_done"])
    return ResultDocument(
        **fields,
        result=raw.get("result"),
        args=raw.get("args"),
        kwargs=raw.get("kwargs"),
        extra={key: value for key, value in raw.items() if key not in _OWN_KEYS},
    )


def _plain_document(raw: dict[str, Any]) -> ResultDocument | None:
    """Read a document with no keys but those that all have; None: it takes a closer look."""
    if not _FIXED_KEYS.issuperset(raw):
        return None
    get = raw.get
    task_id, status, date_done = get("task_id"), get("status"), get("date_done")
    children, parent_id, group_id = get("children"), get("parent_id"), get("group_id")
    if (
        type(task_id) is not str
        or type(status) is not str
        or type(date_done) is not str
        or get("traceback") is not None
        or not (children is None or type(children) is list)
        or not (parent_id is None or type(parent_id) is str)
        or not (group_id is None or type(group_id) is str)
    ):
        return None
    return ResultDocument(
        task_id=task_id,
        status=status,
        result=get("result"),
        children=children,
        date_done=_instant(date_done),
        parent_id=parent_id,
        group_id=group_id,
    )


_KINDS: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {
        "task_id": str,
        "status": str,
        "traceback": str,
        "children": list,
        "date_done": (str, datetime),
        "parent_id": str,
        "group_id": str,
        "name": str,
        "worker": str,
        "retries": int,
        "queue": str,
    }
)
_OWN_KEYS = frozenset(ResultDocument.__struct_fields__) - {"extra"}
_FIXED_KEYS = frozenset(_Document.__struct_fields__)


def _result(error: ErrorInfo | None, meta: Any) -> Any:
    if error is None:
        return meta
    return {
        "exc_type": error.exc_type,
        "exc_message": error.exc_message,
        "exc_module": error.exc_module,
    }


#: The last second that was written, and its text: formatting one costs more than all the rest.
_last_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _iso(at: float) -> str:
    """Do as `umbel.clock.to_iso` does, quickly where many fall into the same second."""
    global _last_second  # noqa: PLW0603 - replaced whole, so threads may race
    second, micros = divmod(round(at * 1_000_000), 1_000_000)
    last, text = _last_second
    if second != last:
        text = to_iso(second)[:19]
        _last_second = (second, text)
    return f"{text}.{micros:06d}+00:00"


def _instant(value: str | datetime) -> float:
    try:
        return parse_iso(value if isinstance(value, str) else value.isoformat())
    except (ValueError, OverflowError) as exc:
        raise DecodeError(f"'date_done' of a result must be ISO 8601, not {value!r:.80}") from exc
