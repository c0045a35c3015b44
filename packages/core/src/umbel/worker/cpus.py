"""How many processors this process may use, in a container too."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: Where control groups are, and which of them this process is in.
_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_count() -> int:
    """Return the processors that may be used: affinity and cgroup quota considered; 1 or more.

    A part of a processor counts as one.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, math.ceil(min([count, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Yield the limits of this process's control group and of all above it, in processors."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:  # version 2
            bases = [_CGROUPS]
        elif "cpu" in controllers.split(","):
            bases = [_CGROUPS / "cpu", _CGROUPS / controllers]
        else:
            continue
        # A container may see its own group as the root, whatever its name is outside.
        group = PurePosixPath(name.lstrip("/"))
        for base in bases:
            for part in (group, *group.parents):
                quota = _quota(base / part)
                if quota is not None:
                    yield quota


def _quota(group: Path) -> float | None:
    """Return the limit of one control group; None: there is none, or it can't be read."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return None if limit == "max" or int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
