"""Imported in the server that children are forked from: the app's modules, once for all of them.

The server has no threads and no connections, so that what is forked from it is clean. Whatever
goes wrong here is left for the child to run into, where it can be told properly.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress

from umbel.worker.heeding import leave_signals_to_supervisor

#: Environment variables that carry to the server what to import, and from where.
MODULES_VARIABLE = "UMBEL_PRELOAD_MODULES"
PATH_VARIABLE = "UMBEL_PRELOAD_PATH"


def preload(modules: str, path: str) -> None:
    """Import the modules that the supervisor named."""
    leave_signals_to_supervisor()
    sys.path[:] = path.split(os.pathsep)
    for name in filter(None, modules.split(",")):
        with suppress(BaseException):  # the child meets it again and reports it
            importlib.import_module(name)


if MODULES_VARIABLE in os.environ:
    preload(os.environ.pop(MODULES_VARIABLE), os.environ.pop(PATH_VARIABLE, ""))
