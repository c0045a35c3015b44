"""What travels: the message, and the delivery of one to a consumer.

A `Message` is Celery's protocol 2 in three parts: headers (what to run), body (bytes of
``[args, kwargs, embed]``) and properties. A broker stores and returns it; it never decodes the
body. These are msgspec structs, not dataclasses, since one is made for every message:
a frozen dataclass of this size takes ten times as long to build (docs/decisions/0001).
"""

from __future__ import annotations

from typing import Any

import msgspec

#: The name of the default queue, Celery's, so that fleets can be mixed.
DEFAULT_QUEUE = "celery"
#: Priorities run from 0 to 255; a higher number goes first, on every broker.
MAX_PRIORITY = 255


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A task message as it is sent.

    `headers` is Celery's protocol 2 table (``task``, ``id``, ``eta``, ``retries`` …) with the
    sender's own headers flat among them. Unknown headers and properties are kept as they are.
    """

    #: Task id; also ``headers["id"]`` and the AMQP ``correlation_id``.
    id: str
    #: Task name; also ``headers["task"]``.
    task: str
    #: The queue it is stored in.
    queue: str = DEFAULT_QUEUE
    headers: dict[str, Any]
    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    #: 0..255, higher first.
    priority: int = 0
    #: Unix seconds before which no consumer sees it; None: at once.
    due_at: float | None = None
    #: Unix seconds after which it isn't worth running; None: never.
    expires_at: float | None = None
    exchange: str = ""
    routing_key: str = ""
    reply_to: str | None = None
    #: 2: the broker keeps it on disk where it can; 1: transient.
    delivery_mode: int = 2
    #: Properties of other makers, kept over a retry.
    properties: dict[str, Any] = {}


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker hands over in a message's place when it can't read what is stored."""

    #: The bytes as found, kept for whoever looks into the dead letters.
    raw: bytes
    #: What is wrong with them, for people.
    reason: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One handing-over of a message to a consumer, who holds it until ack or nack.

    `receipt` is opaque to all but the broker and unique among what its consumer holds.
    """

    message: Message | Malformed
    queue: str
    receipt: str
    #: Fencing token: 1 at the first delivery, one more at each further one.
    token: int = 1
    #: How many times a process died while running it.
    strikes: int = 0

    @property
    def redelivered(self) -> bool:
        """Tell whether it was handed to somebody before."""
        return self.token > 1


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that won't be tried again by itself, with the reason."""

    message: Message | Malformed
    queue: str
    reason: str
    #: Unix seconds.
    died_at: float
    deliveries: int = 1
    #: Names it in `Broker.dead_letters` calls.
    receipt: str = ""


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue stands."""

    name: str
    #: Waiting to be received now.
    ready: int = 0
    #: Waiting for their time.
    delayed: int = 0
    #: With a consumer, not settled yet.
    held: int = 0
    dead: int = 0
    #: Seconds that the oldest ready message has waited; None: nothing is ready.
    oldest_age_s: float | None = None
