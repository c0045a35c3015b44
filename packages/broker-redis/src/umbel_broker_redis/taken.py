"""What one handle has taken, and from which lanes: where to look for what it still holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from umbel.messages import Delivery
from umbel_broker_redis.keys import Lane
from umbel_broker_redis.receipts import read_receipt
from umbel_broker_redis.receiving import Look


class Taken:
    """The books of one handle. Several threads may write them."""

    def __init__(self) -> None:
        #: How often something came, or may have come, from a lane; and what that was when nothing
        #: of it was held.
        self._touched: Counter[Lane] = Counter()
        self._cleared: dict[Lane, int] = {}
        #: Fields of claimed entries that were delivered straight from where they were claimed.
        self._delivered: dict[str, Lane] = {}

    def note(self, look: Look, delivered: Sequence[str]) -> None:
        """Note what a look has found, which has moved what was `delivered` to what is held."""
        for field in delivered:
            self._delivered.pop(field, None)
        self._touched.update(look.lanes)

    def note_claimed(self, lane: Lane, field: str) -> None:
        """Note that a claimed entry is delivered from where it lies."""
        self._delivered[field] = lane
        self._touched[lane] += 1

    def doubt(self, lanes: Iterable[Lane]) -> None:
        """Note that something may have come from `lanes`."""
        self._touched.update(lanes)

    def settled(self, deliveries: Iterable[Delivery]) -> None:
        """Note what was acknowledged."""
        for delivery in deliveries if self._delivered else ():
            receipt = read_receipt(delivery.receipt)
            if receipt is not None:
                self._delivered.pop(receipt.field, None)

    def delivered(self, lanes: Iterable[Lane]) -> list[str]:
        """Return the fields of claimed entries of `lanes` that were delivered already."""
        if not self._delivered:
            return []
        here = set(lanes)
        return [field for field, lane in self._delivered.copy().items() if lane in here]

    def all_delivered(self) -> frozenset[str]:
        """Return the fields of all claimed entries that were delivered already."""
        return frozenset(self._delivered)

    def unclear(self, *, looks_at_all: bool) -> Mapping[Lane, int]:
        """Return the lanes that something of may be held, and how often they were touched."""
        return {
            lane: times
            for lane, times in self._touched.copy().items()
            if looks_at_all or times != self._cleared.get(lane)
        }

    def clear(self, lanes: Mapping[Lane, int], held: Sequence[Delivery]) -> None:
        """Note what is `held` of `lanes`, as `unclear` has returned them."""
        for lane, times in lanes.items():
            if not any(map(lane.holds, held)):
                self._cleared[lane] = times
