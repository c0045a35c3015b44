"""What names a held message: its lane's step, its field in the pending hash, its consumer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from umbel.messages import Delivery
from umbel_broker_redis.keys import Keys, Lane


class Receipt(NamedTuple):
    """A receipt, read."""

    step: int
    field: str
    consumer: str
    #: The key of a message that was sent once; else empty.
    once: str = ""


def read_receipt(text: str) -> Receipt | None:
    """Return what `text` says; None where it is no receipt of this broker's."""
    parts = text.split("/", 3)
    if len(parts) < 4 or not parts[0].isdigit():
        return None
    step, field, once, consumer = parts
    try:
        return Receipt(int(step), field, consumer, bytes.fromhex(once).decode() if once else "")
    except ValueError:
        return None


def write_receipt(receipt: Receipt) -> str:
    """Return what `read_receipt` reads. The consumer is last: its name may hold anything."""
    once = receipt.once.encode().hex() if receipt.once else ""
    return f"{receipt.step}/{receipt.field}/{once}/{receipt.consumer}"


class Held(NamedTuple):
    """Deliveries that one consumer holds of one lane."""

    lane: Lane
    consumer: str
    #: What came with each delivery, and its receipt.
    each: list[tuple[Receipt, Delivery]]


def by_lane(keys: Keys, deliveries: Iterable[Delivery]) -> list[Held]:
    """Return `deliveries` grouped by what one script can settle; foreign ones are left out."""
    groups: dict[tuple[str, int, str], Held] = {}
    for delivery in deliveries:
        receipt = read_receipt(delivery.receipt)
        if receipt is None:
            continue
        name = (delivery.queue, receipt.step, receipt.consumer)
        held = groups.get(name)
        if held is None:
            lane = keys.lane(delivery.queue, receipt.step)
            held = groups[name] = Held(lane, receipt.consumer, [])
        held.each.append((receipt, delivery))
    return list(groups.values())


def foreign(deliveries: Sequence[Delivery], groups: Sequence[Held]) -> list[Delivery]:
    """Return those whose receipt is none of this broker's."""
    known: list[tuple[Receipt, Delivery]] = [pair for group in groups for pair in group.each]
    if len(known) == len(deliveries):
        return []
    ours = {id(delivery) for _, delivery in known}
    return [delivery for delivery in deliveries if id(delivery) not in ours]
