"""Deliveries of what was found in a list or a hash of Redis."""

from __future__ import annotations

from umbel.messages import Delivery
from umbel_broker_redis.entries import read_entry
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import Lane
from umbel_broker_redis.receipts import Receipt, write_receipt


def delivery_of(raw: bytes, field: str, lane: Lane, consumer: str, codec: Codec) -> Delivery:
    """Return the delivery of the entry `raw`, which `consumer` holds under the name `field`."""
    entry = read_entry(raw)
    return Delivery(
        message=codec.decode(entry.envelope, lane.queue),
        queue=lane.queue,
        receipt=write_receipt(Receipt(lane.step, field, consumer, entry.once)),
        token=entry.deliveries + 1,
        strikes=entry.strikes,
    )
