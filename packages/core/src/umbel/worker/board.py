"""The board: memory that a child shares with its supervisor, so that both survive the other.

For each slot of the child: which delivery runs, since when, until when. And the journal:
outcomes that are made but not settled yet. A child that is killed leaves both behind, and its
supervisor settles what was finished, and knows what was running. Nothing is sent to say so: a
write into shared memory is all that a task costs.

One child writes, its supervisor reads; the fields for the other direction are few and atomic.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec

from umbel.outcomes import Outcome

_MAGIC = 0x554D424C
#: magic, ready, slots, journal bytes used, tasks done, unused; lease end, revoke version.
_HEADER = struct.Struct("<IIIIQQ")
_LEASE = struct.Struct("<d")
_COUNT = struct.Struct("<Q")
_USED = struct.Struct("<I")
_LEASE_AT = _HEADER.size
_REVOKES_AT = _LEASE_AT + _LEASE.size
_READY_AT, _USED_AT, _DONE_AT = 4, 12, 16
_SLOTS_AT = 64
#: begun (monotonic seconds; 0: idle), hard deadline (0: none), key of the receipt.
_SLOT = struct.Struct("<dd48s")
_KEY_BYTES = 48
_IDLE = bytes(_SLOT.size)
_LENGTH = struct.Struct("<I")
JOURNAL_BYTES = 512 * 1024


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """An outcome that was made and not settled."""

    receipt: str
    outcome: Outcome
    done_at: float


class RunningSlot(msgspec.Struct, frozen=True):
    """What a slot of a child runs."""

    index: int
    #: `slot_key` of the delivery's receipt.
    key: bytes
    #: Monotonic seconds.
    begun_at: float
    hard_deadline_at: float | None


_encode_entry = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(JournalEntry).decode


def slot_key(receipt: str) -> bytes:
    """Return the name of a delivery in a slot: its receipt, or a digest of a long one."""
    raw = receipt.encode()
    if len(raw) > _KEY_BYTES:
        raw = blake2b(raw, digest_size=_KEY_BYTES // 2).hexdigest().encode()
    return raw.ljust(_KEY_BYTES, b"\0")


class Board:
    """The shared memory of one child."""

    def __init__(self, path: Path, memory: mmap.mmap):
        self.path = path
        self._memory = memory
        _, _, self.slots, _, _, _ = _HEADER.unpack_from(memory, 0)
        self._journal_at = _SLOTS_AT + self.slots * _SLOT.size
        self._used = 0

    @classmethod
    def create(cls, slots: int) -> Board:
        """Make the board of a child with so many slots; the supervisor calls this."""
        folder = Path("/dev/shm")  # noqa: S108 - memory, not disk, where Linux has it
        where = str(folder) if os.access(folder, os.W_OK) else None
        handle, name = tempfile.mkstemp(prefix="umbel-board-", dir=where)
        try:
            os.ftruncate(handle, _SLOTS_AT + slots * _SLOT.size + JOURNAL_BYTES)
            memory = mmap.mmap(handle, 0)
        finally:
            os.close(handle)
        _HEADER.pack_into(memory, 0, _MAGIC, 0, slots, 0, 0, 0)
        return cls(Path(name), memory)

    @classmethod
    def attach(cls, path: Path) -> Board:
        """Map the board at `path`; the child calls this."""
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        return cls(path, memory)

    def unlink(self) -> None:
        """Remove the file's name; the memory lives as long as somebody maps it."""
        try:
            self.path.unlink(missing_ok=True)
        except PermissionError:  # Windows: still mapped; `close` tries again
            return

    def close(self) -> None:
        """Unmap and remove it."""
        self._memory.close()
        self.unlink()

    # -- the child writes ---------------------------------------------------------------------

    def set_ready(self) -> None:
        """Say that the child consumes."""
        _USED.pack_into(self._memory, _READY_AT, 1)

    def begin(self, slot: int, key: bytes, begun_at: float, hard_limit_s: float | None) -> None:
        """Say that `slot` runs the delivery `key` from now (`begun_at`, monotonic)."""
        deadline = 0.0 if hard_limit_s is None else begun_at + hard_limit_s
        _SLOT.pack_into(self._memory, _SLOTS_AT + slot * _SLOT.size, begun_at, deadline, key)

    def end(self, slot: int) -> None:
        """Say that `slot` is idle."""
        at = _SLOTS_AT + slot * _SLOT.size
        self._memory[at : at + _SLOT.size] = _IDLE

    def note(self, receipt: str, outcome: Outcome, done_at: float) -> bool:
        """Write an outcome into the journal; False: it is full, settle now.

        The journal has one writer at a time: its caller holds a lock.
        """
        entry = _encode_entry(JournalEntry(receipt, outcome, done_at))
        end = self._used + _LENGTH.size + len(entry)
        if end > JOURNAL_BYTES:
            return False
        at = self._journal_at + self._used
        self._memory[at : at + end - self._used] = _LENGTH.pack(len(entry)) + entry
        self._used = end
        # Last, so that a reader never sees half an entry.
        _USED.pack_into(self._memory, _USED_AT, end)
        return True

    def clear_journal(self) -> None:
        """Empty the journal: all that it holds is settled."""
        self._used = 0
        _USED.pack_into(self._memory, _USED_AT, 0)

    def count_done(self, done: int) -> None:
        """Say how many tasks the child has run in all."""
        _COUNT.pack_into(self._memory, _DONE_AT, done)

    @property
    def lease_until(self) -> float:
        """Monotonic seconds until which the node's lease is known to hold."""
        return float(_LEASE.unpack_from(self._memory, _LEASE_AT)[0])

    @property
    def revokes(self) -> int:
        """Number that changes when the set of revoked tasks does."""
        return int(_COUNT.unpack_from(self._memory, _REVOKES_AT)[0])

    # -- the supervisor writes and reads ------------------------------------------------------

    def set_lease_until(self, at: float) -> None:
        """Say until when (monotonic seconds) the node's lease holds."""
        _LEASE.pack_into(self._memory, _LEASE_AT, at)

    def set_revokes(self, version: int) -> None:
        """Say that the set of revoked tasks changed."""
        _COUNT.pack_into(self._memory, _REVOKES_AT, version)

    @property
    def is_ready(self) -> bool:
        """Whether the child consumes."""
        return bool(_USED.unpack_from(self._memory, _READY_AT)[0])

    @property
    def done(self) -> int:
        """How many tasks the child has run."""
        return int(_COUNT.unpack_from(self._memory, _DONE_AT)[0])

    def running(self) -> Iterator[RunningSlot]:
        """Yield what the child runs now."""
        for index in range(self.slots):
            at = _SLOTS_AT + index * _SLOT.size
            begun, deadline, key = _SLOT.unpack_from(self._memory, at)
            if begun:
                yield RunningSlot(index, key, begun, deadline or None)

    def journal(self) -> list[JournalEntry]:
        """Return the outcomes that a dead child had made and not settled."""
        used = _USED.unpack_from(self._memory, _USED_AT)[0]
        at, end = self._journal_at, self._journal_at + min(used, JOURNAL_BYTES)
        entries = []
        while at < end:
            (length,) = _LENGTH.unpack_from(self._memory, at)
            at += _LENGTH.size
            entries.append(_decode_entry(self._memory[at : at + length]))
            at += length
        return entries
