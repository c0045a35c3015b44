"""Messages to rows and back. What is damaged becomes `Malformed`, never an exception.

The commonest fields have columns; the others stand in `extras`, a JSON object, or NULL where all
have their defaults.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from umbel.builtin.sqlite.schema import DELAYED, NOBODY, READY
from umbel.errors import BrokerError
from umbel.messages import Delivery, Malformed, Message

#: The columns that `read_message` takes, in its order.
MESSAGE_COLUMNS: Final = "id, queue, priority, headers, extras, body"

_CONTENT_TYPE: Final = "application/json"
_CONTENT_ENCODING: Final = "utf-8"


class _Extras(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is seldom set; the defaults are `Message`'s."""

    #: It was sent once: `sent` knows it. The first field: `_ONCE_EXTRAS` says so.
    once: bool = False
    #: Only where it isn't what the headers say.
    task: str | None = None
    content_type: str = _CONTENT_TYPE
    content_encoding: str = _CONTENT_ENCODING
    due_at: float | None = None
    expires_at: float | None = None
    exchange: str = ""
    routing_key: str = ""
    reply_to: str | None = None
    delivery_mode: int = 2
    properties: dict[str, Any] = {}


#: What the extras of a message begin with that was sent once, and its receipts end with.
_ONCE_EXTRAS: Final = b'{"once":true'
ONCE: Final = "!"

#: Characters of a wrong value that its reason shows.
_SHOWN: Final = 40

_NO_EXTRAS: Final = _Extras()
_NO_EXTRAS_JSON: Final = b"{}"
_encode: Final = msgspec.json.Encoder().encode
_decode_headers: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_extras: Final = msgspec.json.Decoder(_Extras).decode

#: All that decoding bytes from outside can raise; nesting beyond the stack is the last one.
_DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, RecursionError)


def message_row(message: Message, now: float, *, once: bool = False) -> tuple[Any, ...]:
    """Return the values of a row of `messages` from `id` on.

    Args:
        once: Whether `sent` will have a row of it, too.
    Raises: BrokerError: headers or properties hold what JSON can't.
    """
    headers, due_at = message.headers, message.due_at
    content_type, encoding = message.content_type, message.content_encoding
    try:
        headers_json = _encode(headers)
        extras = _encode(
            _Extras(
                once,
                None if headers.get("task") == message.task else message.task,
                # msgspec omits a default that is the same object, not one that is equal.
                _CONTENT_TYPE if content_type == _CONTENT_TYPE else content_type,
                _CONTENT_ENCODING if encoding == _CONTENT_ENCODING else encoding,
                due_at,
                message.expires_at,
                message.exchange,
                message.routing_key,
                message.reply_to,
                message.delivery_mode,
                message.properties,
            )
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokerError(
            f"the headers or properties of message {message.id!r} can't be stored as JSON: {error}"
        ) from error
    delayed = due_at is not None and due_at > now
    return (
        message.id,
        message.queue,
        message.priority,
        DELAYED if delayed else READY,
        due_at if delayed else None,
        NOBODY,
        0,
        0,
        now,
        headers_json,
        None if extras == _NO_EXTRAS_JSON else extras,
        message.body,
    )


def read_message(
    id: Any, queue: Any, priority: Any, headers: Any, extras: Any, body: Any
) -> Message | Malformed:
    """Return the message of these columns, whatever they hold."""
    if type(id) is not str or type(priority) is not int or type(body) is not bytes:
        return _wrong_type(id=id, priority=priority, body=body)
    if type(headers) is not bytes or type(queue) is not str:
        return _wrong_type(headers=headers, queue=queue, body=body)
    try:
        table = _decode_headers(headers)
    except _DECODE_ERRORS as error:
        return Malformed(raw=headers, reason=f"headers are not a JSON object: {_brief(error)}")
    more = _NO_EXTRAS
    if extras is not None:
        try:
            more = _decode_extras(extras)
        except (*_DECODE_ERRORS, TypeError) as error:
            return Malformed(raw=_raw(extras), reason=f"extras are damaged: {_brief(error)}")
    task = table.get("task") if more.task is None else more.task
    if type(task) is not str:
        return Malformed(raw=headers, reason="headers name no task")
    return Message(
        id=id,
        task=task,
        queue=queue,
        headers=table,
        body=body,
        content_type=more.content_type,
        content_encoding=more.content_encoding,
        priority=priority,
        due_at=more.due_at,
        expires_at=more.expires_at,
        exchange=more.exchange,
        routing_key=more.routing_key,
        reply_to=more.reply_to,
        delivery_mode=more.delivery_mode,
        properties=more.properties,
    )


def read_delivery(
    claim: int,
    seq: int,
    token: int,
    strikes: Any,
    id: Any,
    queue: Any,
    priority: Any,
    headers: Any,
    extras: Any,
    body: Any,
) -> Delivery:
    """Return the delivery of a row of seq, token, strikes and MESSAGE_COLUMNS."""
    message = read_message(id, queue, priority, headers, extras, body)
    if type(strikes) is not int or strikes < 0:
        message, strikes = _wrong_type(strikes=strikes), 0
    receipt = f"{seq}:{claim}"
    if extras is not None and type(extras) is bytes and extras.startswith(_ONCE_EXTRAS):
        receipt += ONCE
    return Delivery(
        message=message,
        queue=queue,
        receipt=receipt,
        token=token,
        strikes=strikes,
    )


def read_receipt(receipt: str) -> tuple[int, int] | None:
    """Return the seq and claim that `receipt` names; None: it isn't one of ours."""
    seq, _, claim = receipt.partition(":")
    try:
        return int(seq), int(claim.removesuffix(ONCE))
    except ValueError:
        return None


def _wrong_type(**columns: Any) -> Malformed:
    """Blame the first column that can't be of a message."""
    wanted = {"id": str, "queue": str, "priority": int, "strikes": int}
    wrong = [name for name, value in columns.items() if type(value) is not wanted.get(name, bytes)]
    name = (wrong or list(columns))[0]
    value = columns[name]
    found = "NULL" if value is None else f"{type(value).__name__} {_shown(value)}"
    return Malformed(raw=_raw(value), reason=f"column {name} holds {found}")


def _raw(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode("utf-8", "replace")


def _shown(value: Any) -> str:
    if isinstance(value, (str, bytes)) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    return repr(value)


def _brief(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:200]
