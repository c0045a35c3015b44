"""Dead letters for brokers that keep none: they lie with the coordinator.

A letter is a key ``dead/{queue}/{number}``; numbers count up over all queues. Bury is: put the
letter, then ack the message, so a crash in between leaves both, and the message may die again.
Listing reads all letters of a queue: it is meant for thousands, not for millions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec

from umbel.errors import BrokerUnavailableError
from umbel.ids import new_id
from umbel.interfaces.broker import Capability
from umbel.messages import Burial, DeadLetter, Malformed, Message, QueueStats

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator

_COUNTER = "dead-letters/count"
_LOCK = "dead-letters/replay"
#: How long a replay may hold the others up, and how often they look.
_LOCK_TTL_S, _LOCK_STEP_S = 30.0, 0.01


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dead letter as JSON; one of the first two is there."""

    queue: str
    reason: str
    kind: str
    died_at: float
    deliveries: int
    message: Message | None = None
    malformed: Malformed | None = None
    details: dict[str, Any] = {}


# What JSON doesn't know, as a header of another maker may, is kept as it shows itself.
_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode = msgspec.json.Decoder(_Stored).decode


def lend_dead_letters(broker: Broker, coordinator: Coordinator, clock: Clock) -> None:
    """Give `broker` the methods of DEAD_LETTER, and the declaration.

    They are set on the handle itself, so its other methods cost nothing more. The coordinator is
    closed with the broker.
    """
    store = DeadLetterStore(broker, coordinator, clock)
    lent: dict[str, Any] = {
        "capabilities": broker.capabilities | {Capability.DEAD_LETTER},
        "bury": store.bury,
        "dead_letters": store.dead_letters,
        "drop_dead": store.drop_dead,
        "replay": store.replay,
        "close": _both(broker.close, coordinator.close),
    }
    if Capability.INSPECT in broker.capabilities:
        lent["stats"] = store.counted(broker.stats)
    vars(broker).update(lent)


class DeadLetterStore:
    """Dead letters of one broker; the methods are those of `Broker`.

    Args:
        broker: Has the messages, alive.
        coordinator: Keeps them, dead.
        clock: Where to read the time.
    """

    def __init__(self, broker: Broker, coordinator: Coordinator, clock: Clock):
        self._broker, self._coordinator, self._clock = broker, coordinator, clock

    def bury(self, burials: Sequence[Burial]) -> None:
        """Move each delivery to the dead letters of its queue; what isn't held is passed over."""
        if not burials:
            return
        last = self._coordinator.increment(_COUNTER, len(burials))
        keys = {}
        for number, burial in enumerate(burials, start=last - len(burials) + 1):
            key = keys[burial.delivery.receipt] = f"{_folder(burial.delivery.queue)}{number:016d}"
            self._coordinator.put(key, _encode(_stored(burial, self._clock.time())))
        lost = self._broker.ack([burial.delivery for burial in burials])
        if lost:
            self._coordinator.delete([keys[delivery.receipt] for delivery in lost])

    def dead_letters(
        self, queue: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> Sequence[DeadLetter]:
        """Return dead letters, newest first; of all queues where `queue` is None."""
        found = self._coordinator.scan(_folder(queue))
        newest = sorted(found, key=_number, reverse=True)
        return [_letter(key, found[key]) for key in newest[offset : offset + limit]]

    def drop_dead(self, receipts: Sequence[str]) -> int:
        """Remove dead letters for good; returns how many."""
        return self._coordinator.delete([each for each in receipts if _is_key(each)])

    def replay(self, replays: Sequence[tuple[str, Message]]) -> Sequence[str]:
        """Send a message in the place of each dead letter; returns receipts that weren't there.

        All are sent in one call, then dropped: a crash in between leaves letters of messages that
        were sent, and loses none.
        """
        with self._alone():
            known = self._coordinator.get([key for key, _ in replays if _is_key(key)])
            there = {key: message for key, message in replays if key in known}
            self._send(list(there.values()))
            self._coordinator.delete(list(there))
        return [key for key, _ in replays if key not in there]

    def _send(self, messages: Sequence[Message]) -> None:
        if Capability.BOUNDED in self._broker.capabilities:
            self._broker.settle([], messages)  # which keeps to no bound
        else:
            self._broker.send(messages)

    def counted(self, stats: Callable[[str], QueueStats]) -> Callable[[str], QueueStats]:
        """Return `stats` with the dead counted."""

        def count(queue: str) -> QueueStats:
            dead = len(self._coordinator.scan(_folder(queue)))
            return msgspec.structs.replace(stats(queue), dead=dead)

        return count

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other replays waiting, so that none sends what another has sent."""
        holder, ends_at = new_id(), time.monotonic() + _LOCK_TTL_S
        while (token := self._coordinator.acquire(_LOCK, holder, ttl_s=_LOCK_TTL_S)) is None:
            if time.monotonic() > ends_at:
                raise BrokerUnavailableError("other replays of dead letters go on; try again later")
            time.sleep(_LOCK_STEP_S)
        try:
            yield
        finally:
            self._coordinator.release(_LOCK, holder, token)


def _folder(queue: str | None) -> str:
    return "dead/" if queue is None else f"dead/{quote(queue, safe='')}/"


def _number(key: str) -> str:
    return key.rpartition("/")[2]


def _is_key(receipt: str) -> bool:
    return receipt.startswith("dead/")


def _stored(burial: Burial, now: float) -> _Stored:
    delivery = burial.delivery
    message = delivery.message
    return _Stored(
        queue=delivery.queue,
        reason=burial.reason,
        kind=burial.kind,
        died_at=now,
        deliveries=delivery.token,
        message=message if isinstance(message, Message) else None,
        malformed=message if isinstance(message, Malformed) else None,
        details=burial.details,
    )


def _letter(key: str, value: bytes) -> DeadLetter:
    try:
        stored = _decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        damaged = Malformed(raw=value, reason=f"the record of a dead letter: {error}")
        queue = unquote(key.split("/")[1])
        stored = _Stored(queue, "its record is damaged", "malformed", 0.0, 1, malformed=damaged)
    return DeadLetter(
        message=stored.message or stored.malformed or Malformed(raw=value, reason="no message"),
        queue=stored.queue,
        reason=stored.reason,
        kind=stored.kind,
        details=stored.details,
        died_at=stored.died_at,
        deliveries=stored.deliveries,
        receipt=key,
    )


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def close() -> None:
        try:
            first()
        finally:
            second()

    return close
