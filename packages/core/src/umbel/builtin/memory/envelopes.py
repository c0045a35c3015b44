"""Messages as a memory broker keeps them: encoded, as on any other broker."""

from __future__ import annotations

from typing import Any

import msgspec

from umbel.builtin.memory.queues import Entry
from umbel.errors import BrokerError
from umbel.messages import Malformed, Message


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A message but for its queue and body, in the order of `Message`.

    Stored as JSON, as on any other broker: what can't travel is refused here too, and nobody's
    later change of a header reaches the queue.
    """

    id: str
    task: str
    headers: dict[str, Any]
    content_type: str
    content_encoding: str
    priority: int
    due_at: float | None
    expires_at: float | None
    exchange: str
    routing_key: str
    reply_to: str | None
    delivery_mode: int
    properties: dict[str, Any]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


def written(message: Message) -> bytes:
    """Return `message` but for its queue and body. Raises: BrokerError: it can't be encoded."""
    try:
        return _encode(
            _Envelope(
                message.id,
                message.task,
                message.headers,
                message.content_type,
                message.content_encoding,
                message.priority,
                message.due_at,
                message.expires_at,
                message.exchange,
                message.routing_key,
                message.reply_to,
                message.delivery_mode,
                message.properties,
            )
        )
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BrokerError(
            f"message {message.id!r} of task {message.task!r} can't be sent, since its headers or "
            f"properties aren't JSON: {error}"
        ) from error


def read(entry: Entry) -> Message | Malformed:
    """Return the message of `entry`, whatever it holds."""
    try:
        envelope = _decode(entry.raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Malformed(raw=entry.raw, reason=f"not a message of this broker: {error}")
    return Message(
        id=envelope.id,
        task=envelope.task,
        queue=entry.queue,
        headers=envelope.headers,
        body=entry.body,
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        priority=envelope.priority,
        due_at=envelope.due_at,
        expires_at=envelope.expires_at,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        reply_to=envelope.reply_to,
        delivery_mode=envelope.delivery_mode,
        properties=envelope.properties,
    )
