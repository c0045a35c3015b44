"""Messages to kombu's envelopes and back: one JSON object, the body in base64.

What is damaged becomes `Malformed`, never an exception.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from random import getrandbits
from typing import Any

import msgspec

from umbel.clock import parse_iso
from umbel.errors import BrokerError
from umbel.messages import MAX_PRIORITY, Malformed, Message

#: On the wire 0 goes first and 9 last; at our API a higher number goes first.
LAST = 9


class _Info(msgspec.Struct):
    exchange: str
    routing_key: str


class _Properties(msgspec.Struct):
    correlation_id: str
    reply_to: str | None
    delivery_mode: int
    delivery_info: _Info
    priority: int
    body_encoding: str
    delivery_tag: str
    #: AMQP's: unix seconds. kombu passes it over; here it tells how long a message has waited.
    timestamp: float


class _Sent(msgspec.Struct, rename="kebab"):
    body: str
    content_encoding: str
    content_type: str
    headers: dict[str, Any]
    properties: Any


class _Received(msgspec.Struct, frozen=True, rename="kebab"):
    body: str
    content_encoding: str = "utf-8"
    content_type: str = "application/json"
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Received).decode
#: Properties for what the wire has no exact place for: unix seconds, and a priority above 9.
_DUE_AT, _EXPIRES_AT, _PRIORITY = "umbel_due_at", "umbel_expires_at", "umbel_priority"
#: Properties that `Message` has fields for, or that each envelope has anew.
_PLAIN = frozenset(_Properties.__struct_fields__)
_OURS = _PLAIN | {_DUE_AT, _EXPIRES_AT, _PRIORITY}


class Codec:
    """Reads and writes envelopes in one numbering of priorities."""

    def __init__(self, *, celery_priorities: bool = False):
        """Take `celery_priorities` for: our numbers go onto the wire as they are, 0 first."""
        self._flips = not celery_priorities

    def wire_priority(self, priority: int) -> int:
        """Return the number that stands for `priority` on the wire, 0 to 9 and 0 first."""
        clipped = min(priority, LAST)
        return LAST - clipped if self._flips else clipped

    def encode(self, message: Message, now: float) -> bytes:
        """Return the envelope of `message`, sent at `now` (unix seconds).

        Raises: BrokerError: its headers or properties aren't JSON.
        """
        properties: Any = _Properties(
            message.id,
            message.reply_to,
            message.delivery_mode,
            _Info(message.exchange, message.routing_key or message.queue),
            self.wire_priority(message.priority),
            "base64",
            # Unique as kombu needs it, for one publish, and cheaper than an id.
            f"{getrandbits(128):032x}",
            now,
        )
        if extras := _extras(message):
            properties = {**extras, **msgspec.structs.asdict(properties)}
        envelope = _Sent(
            b2a_base64(message.body, newline=False).decode("ascii"),
            message.content_encoding,
            message.content_type,
            message.headers,
            properties,
        )
        try:
            return _encode(envelope)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BrokerError(
                f"message {message.id!r} of task {message.task!r} can't be sent, since its headers "
                f"or properties aren't JSON: {error}"
            ) from error

    def decode(self, raw: bytes, queue: str) -> Message | Malformed:
        """Return the message of an envelope that was found in `queue`."""
        try:
            return self._message(_decode(raw), queue)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            return Malformed(raw=raw, reason=f"not an envelope of kombu's: {error}")

    def _message(self, envelope: _Received, queue: str) -> Message:
        headers, properties = envelope.headers, envelope.properties
        get = properties.get
        if get("body_encoding") == "base64":
            try:
                body = a2b_base64(envelope.body)
            except Base64Error as error:
                raise ValueError(f"its body isn't base64: {error}") from error
        else:
            body = envelope.body.encode()
        info = get("delivery_info")
        exchange = routing_key = None
        if isinstance(info, dict):
            exchange, routing_key = info.get("exchange"), info.get("routing_key")
        task_id, task = get("correlation_id") or headers.get("id"), headers.get("task")
        reply_to = get("reply_to")
        priority = self._priority(get("priority"))
        due_at = None
        expires_at = _instant(headers.get("expires"))
        others: dict[str, Any] = {}
        if not properties.keys() <= _PLAIN:
            others = {key: value for key, value in properties.items() if key not in _OURS}
            due_at = _number(get(_DUE_AT))
            expires_at = _number(get(_EXPIRES_AT)) or expires_at
            exact = get(_PRIORITY)
            if type(exact) is int and LAST < exact <= MAX_PRIORITY:
                priority = exact
        return Message(
            id=task_id if type(task_id) is str else "",
            task=task if type(task) is str else "",
            queue=queue,
            headers=headers,
            body=body,
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            priority=priority,
            due_at=due_at,
            expires_at=expires_at,
            exchange=exchange if type(exchange) is str else "",
            # The queue's own name goes without saying, with the default exchange.
            routing_key=routing_key
            if type(routing_key) is str and (exchange or routing_key != queue)
            else "",
            reply_to=reply_to if type(reply_to) is str else None,
            delivery_mode=1 if get("delivery_mode") == 1 else 2,
            properties=others,
        )

    def _priority(self, wire: Any) -> int:
        """Return our number for one on the wire; what is none counts as kombu's default, 0."""
        number = min(wire, LAST) if type(wire) is int and wire >= 0 else 0
        return LAST - number if self._flips else number


def sent_at(raw: bytes) -> float | None:
    """Return when an envelope of umbel's was sent (unix seconds); None where it doesn't say."""
    try:
        found = _decode(raw).properties.get("timestamp")
    except (msgspec.MsgspecError, ValueError):
        return None
    return float(found) if isinstance(found, (int, float)) else None


def _extras(message: Message) -> dict[str, Any]:
    """Return the properties that most messages don't have."""
    extras = dict(message.properties)
    if message.priority > LAST:
        extras[_PRIORITY] = message.priority
    if message.due_at is not None:
        extras[_DUE_AT] = message.due_at
    if message.expires_at is not None:
        extras[_EXPIRES_AT] = message.expires_at
    return extras


def _number(value: Any) -> float | None:
    return float(value) if type(value) in {int, float} else None


def _instant(text: Any) -> float | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except (TypeError, ValueError, OverflowError):
        return None  # the worker reads it again, and says what is wrong with it
