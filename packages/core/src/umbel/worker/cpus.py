"""How many processors this process may use, in a container too."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def cpu_count() -> int:
    """Return the processors that may be used: affinity and cgroup quota considered; 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _quota() -> float | None:
    """Return the cgroup's limit in processors; None: there is none, or it can't be read."""
    try:
        if _CGROUP_2.exists():
            limit, period = _CGROUP_2.read_text().split()
        else:
            limit, period = (path.read_text().strip() for path in _CGROUP_1)
        if limit == "max" or int(limit) <= 0:
            return None
        return int(limit) / int(period)
    except (OSError, ValueError):
        return None
