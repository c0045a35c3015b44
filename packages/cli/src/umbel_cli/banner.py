"""What a worker says of itself when it starts."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from umbel.redaction import mask_url
from umbel.worker.scaling import Bounds

if TYPE_CHECKING:
    from umbel.worker.worker import Worker
    from umbel_cli.app_loading import LoadedApp

_EXPECTED_SOURCES = frozenset({"constructor of the app", "conf.update()"})


def banner(node: Worker, loaded: LoadedApp, *, show_tasks: bool) -> str:
    """Return app, broker, pool, queues and, with `show_tasks`, the tasks of a worker node."""
    conf = loaded.app.conf
    rows = {
        "app": f"{loaded.app.main} ({loaded.path})",
        "broker": mask_url(conf.broker_url),
        "results": mask_url(conf.result_backend) if conf.result_backend else "disabled",
        "pool": _pool(node),
        "queues": ", ".join(node.queues),
        "settings": _sources(loaded),
    }
    lines = [f"{node.hostname}  umbel {umbel_version()}", _platform(), ""]
    lines += [f"  {name:<9} {text}" for name, text in rows.items() if text]
    if show_tasks:
        lines += ["", "  tasks", *(f"    {name}" for name in sorted(loaded.app.tasks))]
    return "\n".join(lines) + "\n"


def umbel_version() -> str:
    """Return umbel's version; ``"?"`` where it runs from a folder that isn't installed."""
    try:
        return version("umbel")
    except PackageNotFoundError:
        return "?"


def _platform() -> str:
    return f"{platform.platform()}, Python {platform.python_version()}"


def _pool(node: Worker) -> str:
    processes, slots = node.layout.processes, node.layout.slots
    if not processes:
        return f"{node.pool}, in this process"
    bounds = Bounds.of(node.app.conf)
    if bounds is not None:
        text = f"{node.pool}, {bounds.fewest} to {bounds.most} processes"
    else:
        text = f"{node.pool}, {processes} process{'es' if processes != 1 else ''}"
    return text if slots == 1 else f"{text} × {slots} slots"


def _sources(loaded: LoadedApp) -> str:
    """Say where settings come from, besides the app itself."""
    conf = loaded.app.conf
    sources = {conf.source_of(name) for name in conf.table(with_defaults=False)}
    return ", ".join(sorted(sources - _EXPECTED_SOURCES))
