"""The rates of a node's task types, in memory that all of its processes share.

The supervisor owns the table, so that what it says outlives its children. A lock that the system
frees when its holder dies guards it: no killed process stops the others. What such a process was
about to write may be torn; `pacing` copes with any numbers.
"""

from __future__ import annotations

import math
import mmap
import os
import random
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from umbel.errors import ConfigError
from umbel.worker.pacing import Pace, step
from umbel.worker.shared_files import lock_file, new_file, open_file, unlock_file

#: Task types that may have a limit.
MOST_TYPES = 1024
_VERSION = struct.Struct("Q")
_COUNT = struct.Struct("I")
_VERSION_AT, _COUNT_AT, _FIRST_AT = 0, 8, 64
_KEY_BYTES = 16
#: Digest of the name; the rate that the code gives; the one set at run time (NaN: none); the pace.
_ENTRY = struct.Struct(f"{_KEY_BYTES}sdd3d")
_RATES = struct.Struct("dd")
_PACE = struct.Struct("3d")
_RATES_AT, _PACE_AT = _KEY_BYTES, _KEY_BYTES + 2 * 8
_BYTES = _FIRST_AT + MOST_TYPES * _ENTRY.size


class RateTable:
    """Rates by task type. Thread-safe. Pickled while a process starts, it arrives there mapped."""

    def __init__(self, handle: int | None = None, path: Path | None = None):
        """Map the open file `handle`, or memory of this process alone where there is none.

        `path` is the file's name, where it has one.
        """
        self._memory = mmap.mmap(-1 if handle is None else handle, _BYTES)
        self._handle, self._path = handle, path
        # Locks of files are a process's: its threads need one of their own.
        self._lock = threading.Lock()

    @classmethod
    def create(cls) -> RateTable:
        """Make a table that can be handed to other processes."""
        return cls(*new_file("umbel-rates", _BYTES))

    @property
    def handle(self) -> int | None:
        """The open file, to hand over to a child; None: the memory is this process's alone."""
        return self._handle

    def __reduce__(self) -> tuple[Callable[..., RateTable], tuple[Any, ...]]:
        if self._path is not None:
            return _from_path, (self._path,)
        if self._handle is None:
            raise ValueError("a table of this process alone can't be handed over")
        return _from_handle, (reduction.DupFd(self._handle),)

    def close(self, *, remove: bool = True) -> None:
        """Unmap it; `remove` its file, if that has a name. Repeatable."""
        self._memory.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        if self._path is not None and remove:
            self._path.unlink(missing_ok=True)

    # -- what the limits are --------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Number that changes whenever a limit does."""
        return int(_VERSION.unpack_from(self._memory, _VERSION_AT)[0])

    def declare(self, name: str, rate: float) -> None:
        """Say which rate the code gives to the task `name` (a second; 0.0: no limit)."""
        self._set(name, own=rate)

    def override(self, name: str, rate: float | None) -> None:
        """Set the rate of the task `name` in the place of its own; None: its own again."""
        self._set(name, override=math.nan if rate is None else rate)

    def limit(self, name: str) -> float:
        """Return the rate of the task `name`, a second; 0.0: no limit."""
        index = self.find(name)
        return 0.0 if index is None else self._rate(index)

    def find(self, name: str) -> int | None:
        """Return the place of the task `name`; None: it never had a limit."""
        return self._find(_key(name))

    def _find(self, key: bytes) -> int | None:
        (count,) = _COUNT.unpack_from(self._memory, _COUNT_AT)
        for index in range(min(count, MOST_TYPES)):
            at = _FIRST_AT + index * _ENTRY.size
            if self._memory[at : at + _KEY_BYTES] == key:
                return index
        return None

    def _rate(self, index: int) -> float:
        own, override = _RATES.unpack_from(self._memory, _place(index) + _RATES_AT)
        return float(own if math.isnan(override) else override)

    def _set(self, name: str, *, own: float | None = None, override: float | None = None) -> None:
        """Change a task's rates. Raises: ConfigError: too many tasks have a limit."""
        key = _key(name)
        with self._locked():
            index = self._find(key)
            if index is None:
                if not own and (override is None or math.isnan(override)):
                    return
                index = self._add(key)
            at = _place(index) + _RATES_AT
            before = _RATES.unpack_from(self._memory, at)
            now_own = before[0] if own is None else own
            now_override = before[1] if override is None else override
            rates = _RATES.pack(now_own, now_override)
            if rates == self._memory[at : at + _RATES.size]:
                return
            self._memory[at : at + _RATES.size] = rates
            self._write(index, Pace())  # what was promised under another limit is void
            _VERSION.pack_into(self._memory, _VERSION_AT, self.version + 1)

    def _add(self, key: bytes) -> int:
        (index,) = _COUNT.unpack_from(self._memory, _COUNT_AT)
        if index >= MOST_TYPES:
            raise ConfigError(
                f"{MOST_TYPES} task types of this worker have a rate limit, there is no room for "
                "another one"
            )
        _ENTRY.pack_into(self._memory, _place(index), key, 0.0, math.nan, 0.0, 0.0, 0.0)
        _COUNT.pack_into(self._memory, _COUNT_AT, index + 1)
        return int(index)

    # -- asking to start ------------------------------------------------------------------------

    def take(
        self,
        index: int,
        clock: Callable[[], float],
        *,
        is_new: bool,
        jitter: Callable[[], float] = random.random,
    ) -> float:
        """Let a message of the task at `index` ask to start.

        Args:
            index: As `find` says.
            clock: Returns monotonic seconds, the same ones to all processes.
            is_new, jitter: See `pacing.step`.
        Returns: 0.0: it starts, and this start is used up; else the seconds to hold it.
        """
        with self._locked():
            rate = self._rate(index)
            if not 0 < rate < math.inf:
                return 0.0
            pace = Pace(*_PACE.unpack_from(self._memory, _place(index) + _PACE_AT))
            pace, hold_s = step(pace, clock(), rate, is_new=is_new, jitter=jitter)
            self._write(index, pace)
            return hold_s

    def _write(self, index: int, pace: Pace) -> None:
        _PACE.pack_into(self._memory, _place(index) + _PACE_AT, *pace)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._handle is None:
                yield
                return
            lock_file(self._handle)
            try:
                yield
            finally:
                unlock_file(self._handle)


def _place(index: int) -> int:
    return _FIRST_AT + index * _ENTRY.size


def _key(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _from_handle(inherited: Any) -> RateTable:
    """Map what a parent handed over; called as a child unpickles it."""
    return RateTable(inherited.detach())


def _from_path(path: Path) -> RateTable:
    """Map a named file; called as a child unpickles it."""
    return RateTable(open_file(path), path)
