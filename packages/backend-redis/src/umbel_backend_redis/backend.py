"""The result backend on Redis."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from umbel.clock import Clock
from umbel.errors import BackendError, BackendUnavailableError
from umbel.interfaces.backend import Backend, BackendCapability
from umbel.outcomes import ChordPart, ChordProgress, StoredResult
from umbel_backend_redis.chords import (
    chord_body,
    chord_progress,
    close_chord,
    grow_chord,
    join_chord,
    open_chord,
)
from umbel_backend_redis.feed import Feed
from umbel_backend_redis.keys import Keys, rank_key
from umbel_backend_redis.records import read, read_beside
from umbel_backend_redis.storing import store, ttl_ms
from umbel_backend_redis.waits import Waits
from umbel_redis_client import FAILED, Call, Client, Failures, pack, parse_url, raised

FAILURES: Final = Failures(BackendError, BackendUnavailableError)

#: Keys in one command.
_CHUNK: Final = 1000
#: Celery's option: whether the parts of a chord are kept in order.
_IN_ORDER: Final = "result_chord_ordered"

T = TypeVar("T")


class RedisBackend(Backend):
    """Results in Celery's keys, told on Celery's channels.

    As durable as the server is set up to be: what it loses in a crash is lost.
    """

    capabilities = frozenset(
        {
            BackendCapability.PUSH,
            BackendCapability.DURABLE,
            BackendCapability.SHARED,
            BackendCapability.EXPIRES,
            BackendCapability.CHORD,
        }
    )

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        super().__init__()
        address = parse_url(url, options, ignored=frozenset({_IN_ORDER}))
        self._in_order = bool(options.get(_IN_ORDER, True))
        self._client = client = Client(address)
        self._keys = Keys(client.prefix, is_cluster=client.is_cluster)
        # By process. Changed by atomic dict calls alone: a lock could be held at a fork.
        self._waits: dict[int, Waits] = {}

    def store(self, results: Sequence[StoredResult]) -> Sequence[str]:
        """Store `results`, and tell who waits; return ids of the tasks whose result was refused."""
        if not results:
            return ()
        try:
            return store(self._client, self._keys, results)
        except FAILED as exc:
            raise FAILURES.told(exc) from exc

    def load(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        """Return what is stored for `task_ids`, by umbel or Celery."""
        try:
            return self._load(task_ids)
        except FAILED as exc:
            raise FAILURES.told(exc) from exc

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the results of `task_ids`."""
        names: list[str] = []
        for task_id in task_ids:
            key = self._keys.result + task_id
            names += (key, rank_key(key))
        calls = self._calls("UNLINK", names, 1)
        self._told(lambda: raised(self._client.pipeline(calls)))

    def wait(self, task_ids: Sequence[str], *, timeout_s: float) -> Mapping[str, StoredResult]:
        """Wait for a final result among `task_ids`; one connection a process tells of all."""
        try:
            return self._own_waits().wait(task_ids, timeout_s)
        except FAILED as exc:
            raise FAILURES.told(exc) from exc

    def interrupt(self) -> None:
        """Make every `wait` in another thread return at once."""
        self._own_waits().interrupt()

    def save_group(self, group_id: str, document: bytes, *, ttl_s: float | None) -> None:
        """Keep what a group is made of, where Celery looks for it."""
        key = self._keys.chord(group_id).group
        ends = () if ttl_s is None else ("PX", ttl_ms(ttl_s))
        self._told(lambda: self._client.call(key, "SET", key, document, *ends))

    def load_group(self, group_id: str) -> bytes | None:
        """Return what was saved of a group, by umbel or Celery."""
        key = self._keys.chord(group_id).group
        found: bytes | None = self._told(lambda: self._client.call(key, "GET", key))
        return found

    def delete_group(self, group_id: str) -> None:
        """Drop what was saved of a group."""
        key = self._keys.chord(group_id).group
        self._told(lambda: self._client.call(key, "UNLINK", key))

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say that the chord of `group_id` has `size` parts."""
        self._told(
            lambda: open_chord(self._client, self._keys, group_id, size, ttl_s=ttl_s, body=body)
        )

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what an open chord was opened with, by umbel."""
        return self._told(lambda: chord_body(self._client, self._keys, group_id))

    def grow_chord(self, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None) -> bool:
        """Say that a chord has a part more for each new id; tell whether it is open."""
        return self._told(
            lambda: grow_chord(self._client, self._keys, group_id, task_ids, ttl_s=ttl_s)
        )

    def join_chord(self, parts: Sequence[ChordPart]) -> Mapping[str, Sequence[ChordPart]]:
        """Count `parts`; return all those of the chords that are complete or aborted.

        None of a chord whose body a worker of Celery's is about to send.
        """
        return self._told(
            lambda: join_chord(self._client, self._keys, parts, in_order=self._in_order)
        )

    def close_chord(self, group_ids: Sequence[str]) -> None:
        """Forget the parts of chords whose body was sent."""
        self._told(lambda: close_chord(self._client, self._keys, group_ids))

    def chord_progress(self, group_ids: Sequence[str]) -> Mapping[str, ChordProgress]:
        """Return how far chords and groups have come."""
        return self._told(lambda: chord_progress(self._client, self._keys, group_ids))

    def check(self) -> None:
        """Raise BackendError where nothing can be stored."""
        key = f"{self._keys.prefix}umbel:check"
        self._told(lambda: self._client.call(key, "SET", key, "", "PX", 1000))

    def close(self) -> None:
        """Close all connections; they are made anew when needed. Repeatable."""
        for pid in list(self._waits):
            waits = self._waits.pop(pid, None)
            if waits is not None and pid == os.getpid():
                waits.close()
        self._client.close()

    def _own_waits(self) -> Waits:
        pid = os.getpid()
        found = self._waits.get(pid)
        if found is None:
            # After a fork, the parent's stays as it is: its lock may be held for ever.
            client, prefix = self._client, self._keys.result
            new = Waits(lambda: Feed(client, prefix), self._load, client.has_moved)
            found = self._waits.setdefault(pid, new)
        return found

    def _load(self, task_ids: Sequence[str]) -> dict[str, StoredResult]:
        prefix = self._keys.result
        found: dict[str, StoredResult] = {}
        odd: list[str] = []
        names = [prefix + task_id for task_id in task_ids]
        for task_id, value in zip(task_ids, self._values(names, 1), strict=True):
            if value is not None:
                result = read(task_id, value)
                if result is None:
                    odd.append(task_id)
                else:
                    found[task_id] = result
        if odd:
            found.update(self._load_odd(odd))
        return found

    def _load_odd(self, task_ids: Sequence[str]) -> dict[str, StoredResult]:
        """Read values anew, together with what stands beside each."""
        prefix = self._keys.result
        names: list[str] = []
        for task_id in task_ids:
            key = prefix + task_id
            names += (key, rank_key(key))
        values = self._values(names, 2)
        found = {}
        for task_id, value, beside in zip(task_ids, values[::2], values[1::2], strict=True):
            if value is not None:
                found[task_id] = read(task_id, value) or read_beside(task_id, value, beside)
        return found

    def _values(self, names: Sequence[str], together: int) -> list[bytes | None]:
        """Return the values of keys, of which each `together` are of one slot."""
        calls = self._calls("MGET", names, together)
        return [value for reply in raised(self._client.pipeline(calls)) for value in reply]

    def _calls(self, command: str, names: Sequence[str], together: int) -> list[Call]:
        size = together if self._client.is_cluster else _CHUNK
        chunks = [names[start : start + size] for start in range(0, len(names), size)]
        return [Call(chunk[0].encode(), pack((command, *chunk))) for chunk in chunks]

    def _told(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except FAILED as exc:
            raise FAILURES.told(exc) from exc
