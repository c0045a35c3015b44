"""What travels: the message, and the delivery of one to a consumer.

A `Message` is Celery's protocol 2 in three parts: headers (what to run), body (bytes of
``[args, kwargs, embed]``) and properties. A broker stores and returns it; it never decodes the
body. These are msgspec structs, not dataclasses, since one is made for every message:
a frozen dataclass of this size takes ten times as long to build (docs/decisions/0001).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

#: The name of the default queue, Celery's, so that fleets can be mixed.
DEFAULT_QUEUE = "celery"
#: Priorities run from 0 to 255; a higher number goes first, on every broker.
MAX_PRIORITY = 255
#: Header of a replayed message: how many attempts were made before it.
ATTEMPTS_BEFORE = "umbel_attempts_before"
#: Header of a message whose sender chose its id: unix seconds of the sending. The id may have had
#: a task before, whose result isn't this one's.
SENT_AT = "umbel_sent_at"
#: Header of our own: what a sender says of a call (``meta=``), and of all that descends from it.
META = "umbel_meta"
#: Orders results of one id by these seconds first. Far above any number of attempts.
_ATTEMPTS_APIECE = 1 << 20
_LATEST_SENT_AT = 1 << 33
#: Header of a message that was sent again, since the answer to the first try was lost.
RESENT = "umbel_resent"
_MOST_ATTEMPTS = 2**31


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

    @property
    def attempt(self) -> int:
        """How many attempts at this task came before: its retries, and those before a replay."""
        return _count(self.headers.get("retries")) + attempts_before(self.headers)

    @property
    def result_order(self) -> int:
        """Orders the results of one id: that of a later sending or attempt has a higher one."""
        return result_order(self.headers, self.attempt)

    @property
    def once_key(self) -> str:
        """What makes it the same message as another: its id and attempt."""
        attempt = self.attempt
        return f"{self.id}/{attempt}" if attempt else self.id


def attempts_before(headers: Mapping[str, Any]) -> int:
    """Return how many attempts were made before a message with these headers was replayed."""
    return _count(headers.get(ATTEMPTS_BEFORE))


def result_order(headers: Mapping[str, Any], attempt: int) -> int:
    """Return `Message.result_order` of a message with these headers."""
    sent_at = headers.get(SENT_AT)
    if not isinstance(sent_at, int) or not 0 < sent_at < _LATEST_SENT_AT:
        return attempt
    return sent_at * _ATTEMPTS_APIECE + min(attempt, _ATTEMPTS_APIECE - 1)


def is_later_attempt(order: int, than: int) -> bool:
    """Tell whether `order` is the result order of a later attempt at the same sending."""
    return order > than and order // _ATTEMPTS_APIECE == than // _ATTEMPTS_APIECE


def _count(value: Any) -> int:
    """Read a count in a header; what isn't one, or more than stores hold, counts as none."""
    return value if isinstance(value, int) and 0 < value <= _MOST_ATTEMPTS else 0


class OnConflict(StrEnum):
    """What becomes of a message whose `once_key` the broker holds, or has just finished with."""

    #: Nothing of the call is stored; AlreadySentError names what is known.
    RAISE = "raise"
    #: It is passed over: the one that was sent before stands for it.
    RETURN = "return"
    #: It takes the place of one that waits; what a worker holds is not replaced but raised.
    REPLACE = "replace"


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


class DeathKind(StrEnum):
    """Why a message is with the dead letters, in one word."""

    #: Its process died while running it, too many times.
    POISON = "poison"
    #: The task failed for good.
    FAILED = "failed"
    #: The task refused it.
    REJECTED = "rejected"
    #: It can't be read, or says what no worker may do.
    MALFORMED = "malformed"
    #: No worker knows its task.
    UNKNOWN = "unknown"
    #: What came of it can't be stored or sent.
    UNDELIVERABLE = "undeliverable"


class Burial(NamedTuple):
    """A delivery on its way to the dead letters of its queue."""

    delivery: Delivery
    #: For people.
    reason: str
    kind: DeathKind = DeathKind.MALFORMED
    #: What else is known, as JSON: ``attempts`` and the like.
    details: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that won't be tried again by itself, with the reason."""

    message: Message | Malformed
    queue: str
    reason: str
    #: A `DeathKind`, or what a later umbel wrote.
    kind: str = DeathKind.MALFORMED
    details: dict[str, Any] = {}
    #: Unix seconds.
    died_at: float
    deliveries: int = 1
    #: Names it in `Broker.dead_letters` calls.
    receipt: str = ""


class Delayed(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits for its time."""

    message: Message | Malformed
    queue: str
    #: Unix seconds.
    due_at: float
    #: Names it in `Broker.promote` and `Broker.drop_delayed`.
    receipt: str


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
