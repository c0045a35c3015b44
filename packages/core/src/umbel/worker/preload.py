"""Imported in the server that children are forked from: the app's modules, once for all of them.

The server has no threads and no connections, so that what is forked from it is clean. Whatever
goes wrong here is left for the child to run into, where it can be told properly.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress

#: Environment variables that carry to the server what to import, and from where.
MODULES_VARIABLE = "UMBEL_PRELOAD_MODULES"
PATH_VARIABLE = "UMBEL_PRELOAD_PATH"


def preload() -> None:
    """Import the modules that the supervisor named."""
    sys.path[:] = os.environ[PATH_VARIABLE].split(os.pathsep)
    for name in os.environ[MODULES_VARIABLE].split(","):
        with suppress(Exception):  # the child meets it again and reports it
            importlib.import_module(name)


if os.environ.get(MODULES_VARIABLE):
    preload()
