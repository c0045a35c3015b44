"""The board: memory that a child shares with its supervisor, so that both survive the other.

For each slot of the child: which delivery runs, since when, until when. And the journal:
outcomes that are made but not settled yet. A child that is killed leaves both behind, and its
supervisor settles what was finished, and knows what was running. Nothing is sent to say so: a
write into shared memory is all that a task costs.

One child writes, its supervisor reads; the fields for the other direction are few and atomic.
Where the system has nameless files, the memory has no name that anybody could leave behind.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from hashlib import blake2b
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import msgspec

from umbel.messages import Message
from umbel.outcomes import Outcome
from umbel.worker.shared_files import new_file, open_file

_MAGIC = 0x554D424C
# Native formats of one field each: written by one store, so that a reader sees old or new.
_NUMBER = struct.Struct("I")
_COUNT = struct.Struct("Q")
_TIME = struct.Struct("d")
_MAGIC_AT, _SLOTS_AT, _USED_AT = 0, 4, 8
_ALIVE_AT, _READY_AT, _ENDED_AT, _RETIRING_AT = 16, 20, 24, 28
_DONE_AT, _LEASE_UNTIL_AT, _LEASE_SINCE_AT, _REVOKES_AT = 32, 40, 48, 56
_TURNED_AT, _ANSWERED_AT, _DOING_AT, _MEMORY_AT = 64, 72, 80, 88
_FIRST_SLOT_AT = 128
_KEY_BYTES = 64
#: begun (monotonic seconds; 0: idle), hard deadline (0: none), key.
_SLOT = struct.Struct(f"dd{_KEY_BYTES}s")
_SLOT_REST = struct.Struct(f"d{_KEY_BYTES}s")
_IDLE = _TIME.pack(0.0)
_LENGTH = struct.Struct("<I")
#: Bytes of each of the journal's two halves: one is valid, the other is for its next version.
JOURNAL_BYTES = 512 * 1024
_HALF_SHIFT = 32


class Doing(IntEnum):
    """What the consuming thread of a child does."""

    #: It hasn't asked the broker for anything yet.
    STARTING = 0
    #: It waits for the broker's answer.
    RECEIVING = 1
    #: It runs what it received, or waits for room.
    WORKING = 2


#: What a child's broken memory may hold besides is passed over.
_DOINGS = frozenset(Doing)


class EarlyAcked(msgspec.Struct, frozen=True, array_like=True):
    """A delivery that its broker has forgotten: only the journal can tell what it was."""

    message: Message
    queue: str
    token: int


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """An outcome that was made and not settled, or an early acknowledged task without one yet."""

    receipt: str
    outcome: Outcome | None
    done_at: float
    early: EarlyAcked | None = None


class RunningSlot(msgspec.Struct, frozen=True):
    """What a slot of a child runs."""

    index: int
    #: `slot_key` of the delivery's receipt, or of its `slot_names.slot_name`.
    key: bytes
    #: Monotonic seconds.
    begun_at: float
    hard_deadline_at: float | None


_encode_entry = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(JournalEntry).decode
#: What the encoder raises for a value that only this process can hold.
_NOT_ENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
#: What the decoder raises for bytes that it didn't write.
_DAMAGED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def slot_key(receipt: str) -> bytes:
    """Return the name of a delivery in a slot: its receipt, or a digest of a long one.

    See `slot_names` for what stands there in the place of a receipt.
    """
    raw = receipt.encode("utf-8", "surrogatepass")
    if len(raw) > _KEY_BYTES:
        raw = blake2b(raw, digest_size=_KEY_BYTES // 2).hexdigest().encode()
    return raw.ljust(_KEY_BYTES, b"\0")


class Board:
    """The shared memory of one child. Pickled while a process starts, it arrives there mapped."""

    def __init__(self, handle: int, path: Path | None = None):
        """Map the open file `handle`; `path` is its name, where it has one."""
        self._memory = mmap.mmap(handle, 0)
        self._handle: int | None = handle
        self._path = path
        self.slots: int = _NUMBER.unpack_from(self._memory, _SLOTS_AT)[0]
        self._journal_at = _FIRST_SLOT_AT + self.slots * _SLOT.size
        self._half = self._used = 0

    @classmethod
    def create(cls, slots: int) -> Board:
        """Make the board of a child with so many slots; the supervisor calls this."""
        handle, path = new_file(
            "umbel-board", _FIRST_SLOT_AT + slots * _SLOT.size + 2 * JOURNAL_BYTES
        )
        with mmap.mmap(handle, _FIRST_SLOT_AT) as memory:
            _NUMBER.pack_into(memory, _MAGIC_AT, _MAGIC)
            _NUMBER.pack_into(memory, _SLOTS_AT, slots)
        return cls(handle, path)

    @classmethod
    def inherit(cls, handle: int) -> Board:
        """Map what a parent handed over as the open file `handle`."""
        board = cls(handle)
        board.forget_file()
        return board

    @property
    def handle(self) -> int:
        """The open file, to hand over to a child. Raises: ValueError: that was done already."""
        if self._handle is None:
            raise ValueError("the board was handed over already")
        return self._handle

    def __reduce__(self) -> tuple[Callable[..., Board], tuple[Any, ...]]:
        if self._path is not None:
            return _from_path, (self._path,)
        return _from_handle, (reduction.DupFd(self.handle),)

    def forget_file(self) -> None:
        """Let go of the file once the child has it: the memory lives while somebody maps it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except PermissionError:  # Windows: still mapped; `close` tries again
                return

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()
        self.forget_file()

    # -- the child writes ---------------------------------------------------------------------

    def set_alive(self) -> None:
        """Say that the child has loaded the app."""
        self._put(_NUMBER, _ALIVE_AT, 1)

    def set_ready(self) -> None:
        """Say that the child consumes."""
        self._put(_NUMBER, _READY_AT, 1)

    def set_ended(self) -> None:
        """Say that the child has ended in order: it holds nothing that it could give back."""
        self._put(_NUMBER, _ENDED_AT, 1)

    def set_retiring(self) -> None:
        """Say that the child takes nothing more and ends, and wants a successor."""
        self._put(_NUMBER, _RETIRING_AT, 1)

    def set_doing(self, doing: Doing, now: float) -> None:
        """Say what the consuming thread does from now (monotonic seconds) on."""
        self._put(_TIME, _TURNED_AT, now)
        self._put(_NUMBER, _DOING_AT, doing)

    def set_answered(self, now: float) -> None:
        """Say that the broker answered now (monotonic seconds)."""
        self._put(_TIME, _ANSWERED_AT, now)

    def set_memory(self, size_bytes: int) -> None:
        """Say how much memory the process has."""
        self._put(_COUNT, _MEMORY_AT, size_bytes)

    def begin(self, slot: int, key: bytes, begun_at: float, hard_limit_s: float | None) -> None:
        """Say that `slot` runs the delivery `key` from now (`begun_at`, monotonic)."""
        at = _FIRST_SLOT_AT + slot * _SLOT.size
        deadline = 0.0 if hard_limit_s is None else begun_at + hard_limit_s
        # The slot is idle until its beginning is there, so nobody reads half a deadline.
        self._memory[at + _TIME.size : at + _SLOT.size] = _SLOT_REST.pack(deadline, key)
        self._memory[at : at + _TIME.size] = _TIME.pack(begun_at)

    def end(self, slot: int) -> None:
        """Say that `slot` is idle."""
        at = _FIRST_SLOT_AT + slot * _SLOT.size
        self._memory[at : at + _TIME.size] = _IDLE

    def note(self, entry: JournalEntry) -> bool:
        """Write an entry into the journal; False: it doesn't fit in, settle now.

        The journal has one writer at a time: its caller holds a lock.
        """
        fits = self._write(entry)
        if fits:
            self._publish()
        return fits

    def rewrite_journal(self, entries: Iterable[JournalEntry]) -> None:
        """Put `entries` in the place of all that the journal holds; a reader sees old or new."""
        self._half, self._used = 1 - self._half, 0
        for entry in entries:
            self._write(entry)
        self._publish()

    def _write(self, entry: JournalEntry) -> bool:
        try:
            data = _encode_entry(entry)
        except _NOT_ENCODABLE:  # such as an integer of more than 64 bits in an error's arguments
            return False
        end = self._used + _LENGTH.size + len(data)
        if end > JOURNAL_BYTES:
            return False
        at = self._journal_at + self._half * JOURNAL_BYTES + self._used
        self._memory[at : at + end - self._used] = _LENGTH.pack(len(data)) + data
        self._used = end
        return True

    def _publish(self) -> None:
        """Make valid what was written; last, so that a reader never sees half an entry."""
        self._put(_COUNT, _USED_AT, self._half << _HALF_SHIFT | self._used)

    def count_done(self, done: int) -> None:
        """Say how many tasks the child has run in all."""
        self._put(_COUNT, _DONE_AT, done)

    # -- the supervisor writes ----------------------------------------------------------------

    def set_lease(self, since: float, until: float) -> None:
        """Tell the child from when until when (monotonic seconds) the lease holds."""
        self._put(_TIME, _LEASE_SINCE_AT, since)
        self._put(_TIME, _LEASE_UNTIL_AT, until)

    def set_revokes(self, version: int) -> None:
        """Tell the child that the set of revoked tasks changed."""
        self._put(_COUNT, _REVOKES_AT, version)

    # -- who reads ----------------------------------------------------------------------------

    @property
    def lease_since(self) -> float:
        """Monotonic seconds since which the node's lease has held without a gap."""
        return float(_TIME.unpack_from(self._memory, _LEASE_SINCE_AT)[0])

    @property
    def lease_until(self) -> float:
        """Monotonic seconds until which the node's lease is known to hold."""
        return float(_TIME.unpack_from(self._memory, _LEASE_UNTIL_AT)[0])

    @property
    def revokes(self) -> int:
        """Number that changes when the set of revoked tasks does."""
        return int(_COUNT.unpack_from(self._memory, _REVOKES_AT)[0])

    @property
    def is_alive(self) -> bool:
        """Whether the child has loaded the app."""
        return bool(_NUMBER.unpack_from(self._memory, _ALIVE_AT)[0])

    @property
    def is_ready(self) -> bool:
        """Whether the child consumes."""
        return bool(_NUMBER.unpack_from(self._memory, _READY_AT)[0])

    @property
    def has_ended(self) -> bool:
        """Whether the child has ended in order."""
        return bool(_NUMBER.unpack_from(self._memory, _ENDED_AT)[0])

    @property
    def is_retiring(self) -> bool:
        """Whether the child takes nothing more and wants a successor."""
        return bool(_NUMBER.unpack_from(self._memory, _RETIRING_AT)[0])

    @property
    def turned_at(self) -> float:
        """Monotonic seconds at which the consuming thread last came round; 0: never."""
        return float(_TIME.unpack_from(self._memory, _TURNED_AT)[0])

    @property
    def answered_at(self) -> float:
        """Monotonic seconds of the broker's last answer to a receive; 0: none yet."""
        return float(_TIME.unpack_from(self._memory, _ANSWERED_AT)[0])

    @property
    def doing(self) -> Doing:
        """What the consuming thread does."""
        number = _NUMBER.unpack_from(self._memory, _DOING_AT)[0]
        return Doing(number) if number in _DOINGS else Doing.WORKING

    @property
    def memory_bytes(self) -> int:
        """What the child last said of its memory; 0: nothing."""
        return int(_COUNT.unpack_from(self._memory, _MEMORY_AT)[0])

    @property
    def done(self) -> int:
        """How many tasks the child has run."""
        return int(_COUNT.unpack_from(self._memory, _DONE_AT)[0])

    def running(self) -> Iterator[RunningSlot]:
        """Yield what the child runs now."""
        for index in range(self.slots):
            begun, deadline, key = _SLOT.unpack(self._read_slot(index))
            if begun:
                yield RunningSlot(index, key, begun, deadline or None)

    def _read_slot(self, index: int) -> bytes:
        """Return a slot as it stands, never the end of one task with the beginning of the next."""
        at = _FIRST_SLOT_AT + index * _SLOT.size
        raw = self._memory[at : at + _SLOT.size]
        while raw[: _TIME.size] != _IDLE:
            again = self._memory[at : at + _SLOT.size]
            if again == raw:
                break
            raw = again
        return raw

    def journal(self) -> list[JournalEntry]:
        """Return what a dead child had noted; what it has damaged is left out."""
        valid = _COUNT.unpack_from(self._memory, _USED_AT)[0]
        half, used = valid >> _HALF_SHIFT & 1, valid & ((1 << _HALF_SHIFT) - 1)
        at = self._journal_at + half * JOURNAL_BYTES
        end = at + min(used, JOURNAL_BYTES)
        entries = []
        while at + _LENGTH.size <= end:
            (length,) = _LENGTH.unpack_from(self._memory, at)
            at += _LENGTH.size
            try:
                entries.append(_decode_entry(self._memory[at : at + length]))
            except _DAMAGED:
                break
            at += length
        return entries

    def _put(self, kind: struct.Struct, at: int, value: float) -> None:
        self._memory[at : at + kind.size] = kind.pack(value)


def _from_handle(inherited: Any) -> Board:
    """Map what a parent handed over; called as a child unpickles it."""
    return Board.inherit(inherited.detach())


def _from_path(path: Path) -> Board:
    """Map a named file; called as a child unpickles it."""
    board = Board(open_file(path), path)
    handle, board._handle = board._handle, None  # noqa: SLF001 - a constructor of it
    if handle is not None:
        os.close(handle)
    return board
