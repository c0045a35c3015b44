"""Messages that are taken once, and queues with a bound, as a memory broker's store has them.

Not thread-safe: the store's lock guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from umbel.builtin.bounds import added
from umbel.builtin.memory.envelopes import read
from umbel.builtin.memory.expiring import ExpiringMap
from umbel.builtin.memory.queues import Entry
from umbel.errors import AlreadySentError, QueueFullError
from umbel.messages import Message, OnConflict


class Sent:
    """What is known of messages by their `once_key`.

    Also finds what a plain `send` put into the broker: its sender may not know that it did.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        #: By id: what was sent plainly. Where several have one id, the last.
        self._plain: dict[str, Entry] = {}
        self._finished: ExpiringMap[bool] = ExpiringMap()

    def note(self, entry: Entry) -> None:
        """Know `entry`, which is stored now."""
        if entry.once_key is None:
            self._plain[entry.id] = entry
        else:
            self._entries[entry.once_key] = entry

    def forget(self, entry: Entry) -> None:
        """Know `entry` no more: it isn't in the broker."""
        key = entry.once_key
        if key is None:
            self._plain.pop(entry.id, None)
        elif self._entries.get(key) is entry:
            del self._entries[key]

    def finish(self, entry: Entry, now: float, window_s: float) -> None:
        """Know for `window_s` seconds that the broker is done with `entry`."""
        self.forget(entry)
        if entry.once_key is not None and entry.once_key not in self._entries:
            self._finished.put(entry.once_key, True, now, now + window_s)

    def get(self, key: str) -> Entry | None:
        """Return what is in the broker and was sent once under `key`."""
        return self._entries.get(key)

    def find(self, message: Message, key: str) -> Entry | None:
        """Return what is in the broker and is the same as `message`, however it was sent."""
        entry = self._entries.get(key) or self._plain.get(message.id)
        if entry is None or entry.once_key is not None:
            return entry
        same = read(entry)
        return entry if isinstance(same, Message) and same.once_key == key else None

    def is_finished(self, key: str, now: float) -> bool:
        """Tell whether the broker was done with it a moment ago."""
        return self._finished.get(key, now) is not None


class Sorted:
    """What `send_once` does with its messages, each named by its index."""

    def __init__(self) -> None:
        #: Ids.
        self.known: list[str] = []
        self.new: list[int] = []
        #: What waits, and what takes its place.
        self.replaced: list[tuple[Entry, int]] = []


def sort(sent: Sent, messages: Sequence[Message], now: float, on_conflict: OnConflict) -> Sorted:
    """Decide what becomes of `messages`.

    Raises: AlreadySentError: some are known that may not be.
    """
    found, barred = Sorted(), list[str]()
    for key, index in _first_of_each(messages).items():
        message = messages[index]
        entry = sent.find(message, key)
        if entry is None and not sent.is_finished(key, now):
            found.new.append(index)
            continue
        found.known.append(message.id)
        if on_conflict is OnConflict.REPLACE:
            if entry is None:
                found.new.append(index)
            elif entry.consumer is None:
                found.replaced.append((entry, index))
            else:
                barred.append(message.id)
    if on_conflict is OnConflict.RAISE:
        barred = found.known
    if barred:
        raise AlreadySentError(barred)
    return found


def unsent(sent: Sent, follow_ups: Sequence[Message], now: float) -> list[int]:
    """Return the indexes of those follow-ups that aren't known."""
    return [
        index
        for key, index in _first_of_each(follow_ups).items()
        if sent.get(key) is None and not sent.is_finished(key, now)
    ]


def _first_of_each(messages: Sequence[Message]) -> dict[str, int]:
    first: dict[str, int] = {}
    for index, message in enumerate(messages):
        first.setdefault(message.once_key, index)
    return first


def check_room(
    bounds: Mapping[str, int], queues: Iterable[str], waiting: Callable[[str], int]
) -> None:
    """See that there is room for one more in each of `queues`. Raises: QueueFullError."""
    for queue, adding in added(bounds, queues).items():
        if waiting(queue) + adding > bounds[queue]:
            raise QueueFullError.no_room(queue, bounds[queue], adding)
