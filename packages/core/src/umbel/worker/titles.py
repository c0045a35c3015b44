"""Names of the worker's processes, as ``top`` and ``ps`` show them."""

from __future__ import annotations

from pathlib import Path

_COMM = Path("/proc/self/comm")
#: What Linux keeps of a name.
_LENGTH = 15


def set_title(name: str) -> None:
    """Name this process; does nothing where the system has no such file."""
    if _COMM.exists():
        try:
            _COMM.write_text(name[:_LENGTH])
        except OSError:  # read-only /proc, as in some sandboxes: a name isn't worth an error
            return
