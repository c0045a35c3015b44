"""How many processes and slots a worker has, from the options and settings that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from umbel.errors import ConfigError
from umbel.worker.cpus import cpu_count

if TYPE_CHECKING:
    from umbel.interfaces.pool import PoolSpec
    from umbel.settings import Settings

#: Slots of a process whose pool has many, where nobody says how many.
DEFAULT_SLOTS = 16


class Layout(msgspec.Struct, frozen=True):
    """Processes of a node (0: it runs its tasks itself), and slots in each."""

    processes: int
    slots: int


def layout_of(
    spec: PoolSpec, *, concurrency: int | None, processes: int | None, conf: Settings
) -> Layout:
    """Return the layout for a pool; what isn't given is as the settings say.

    ``--pool process -c 4`` is 4 × 1, ``--pool threads -c 16`` is 1 × 16,
    ``--processes 2 --pool asyncio -c 100`` is 2 × 100, ``--pool solo`` is the process itself.

    Raises: ConfigError: the numbers don't go with each other or with the pool.
    """
    for name, value in (("concurrency", concurrency), ("processes", processes)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be 1 or more, not {value}")
    if not spec.in_children:
        if (concurrency or 1) > 1 or (processes or 1) > 1:
            raise ConfigError(
                f"pool {spec.name!r} runs one task at a time in this process; "
                f"use --pool process, threads or asyncio for more"
            )
        return Layout(0, 1)
    if spec.concurrency_is_processes:
        if concurrency and processes and concurrency != processes:
            raise ConfigError(
                f"pool {spec.name!r} has one slot a process, so --concurrency {concurrency} "
                f"and --processes {processes} contradict each other; give one of them"
            )
        return Layout(processes or concurrency or conf.worker_concurrency or cpu_count(), 1)
    slots = concurrency or conf.worker_concurrency or DEFAULT_SLOTS
    return Layout(processes or conf.worker_processes or 1, slots)
