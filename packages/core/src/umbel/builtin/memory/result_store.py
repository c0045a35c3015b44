"""All results of one space. Methods are called with `changed` held; `now` is monotonic seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from umbel.builtin.memory.chord_store import ChordStore
from umbel.builtin.memory.expiring import ExpiringMap
from umbel.outcomes import StoredResult
from umbel.states import order_in_rank


class ResultStore:
    """What a memory backend keeps."""

    def __init__(self) -> None:
        #: Guards all of it; notified when a final result came.
        self.changed = threading.Condition(threading.Lock())
        self._results: ExpiringMap[StoredResult] = ExpiringMap()
        self.chords = ChordStore()

    def put(self, new: StoredResult, now: float) -> bool:
        """Store `new` unless what stands there outranks it; tell whether it was stored."""
        old = self._results.get(new.task_id, now)
        if old is not None and _outranks(old, new):
            return False
        expires_at = None if new.ttl_s is None else now + new.ttl_s
        self._results.put(new.task_id, new, now, expires_at)
        return True

    def get(self, task_ids: Iterable[str], now: float) -> dict[str, StoredResult]:
        """Return what is stored for `task_ids`."""
        results = self._results
        return {
            task_id: result
            for task_id in task_ids
            if (result := results.get(task_id, now)) is not None
        }

    def drop(self, task_ids: Iterable[str], now: float) -> None:
        """Forget `task_ids`."""
        for task_id in task_ids:
            self._results.pop(task_id, now)

    def expire(self, now: float, limit: int) -> int:
        """Drop up to `limit` expired results; return how many."""
        return self._results.sweep(now, limit=limit)


def _outranks(old: StoredResult, new: StoredResult) -> bool:
    if old.rank != new.rank:
        return old.rank > new.rank
    return order_in_rank(old.state) > order_in_rank(new.state)
