"""How a worker's children are to be started on this system, and what is loaded for all of them."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from umbel.worker.forking import Forks
from umbel.worker.spawning import Spawner

if TYPE_CHECKING:
    from umbel.worker.host import Host
    from umbel.worker.processes import Starter


def make_starter(host: Host, app_path: str, *, owns_process: bool) -> Starter:
    """Return what starts the children of a worker. Before anything is opened or started here.

    Args:
        host: The app, its tasks imported.
        app_path: ``module:attribute`` of the app.
        owns_process: This process is nothing but a worker: its memory may be shared with them.
    """
    if not sys.platform.startswith("linux"):
        return Spawner()
    if not host.conf.worker_preload_app:
        return Forks(list)
    forks = Forks(lambda: _modules(app_path))
    if owns_process:
        _load_plugins(host)
        forks.fork_server()
    return forks


def _load_plugins(host: Host) -> None:
    """Have broker, backend and serializers import what they need, by opening each once.

    What goes wrong here does so again where the worker opens them for itself, and says so there.
    """
    for name in {host.conf.task_serializer, host.conf.result_serializer}:
        with suppress(Exception):
            host.serializer(name)
    for opener in (host.open_broker, host.open_backend, host.open_coordinator):
        with suppress(Exception):
            handle = opener()
            if handle is not None:
                handle.close()


def _modules(app_path: str) -> list[str]:
    """Return what is to be imported by a process that has nothing: ours, plugins, the app."""
    ours = [name for name in sys.modules if name.partition(".")[0].startswith("umbel")]
    ours = [name for name in ours if not name.startswith("umbel_cli")]
    return [*sorted(ours), app_path.partition(":")[0]]
