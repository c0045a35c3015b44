"""``python -m umbel``: the command line, where it is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> int:
    """Run the command line; return its exit code."""
    if find_spec("umbel_cli") is None:
        print(  # noqa: T201 - it is for a person at a terminal
            'umbel: the command line isn\'t installed; get it with: pip install "umbel[cli]"',
            file=sys.stderr,
        )
        return 2
    from umbel_cli.main import main as run  # noqa: PLC0415 - another distribution, which may be absent

    return run() or 0


if __name__ == "__main__":
    sys.exit(main())
