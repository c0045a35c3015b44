"""Every setting of core, by group: what checks, defaults and documentation are made from.

A setting that nothing reads must not be here.
"""

from __future__ import annotations

from umbel.settings.table import broker, canvas, general, results, tasks, worker

SETTINGS = (
    *general.SETTINGS,
    *broker.SETTINGS,
    *results.SETTINGS,
    *tasks.SETTINGS,
    *canvas.SETTINGS,
    *worker.SETTINGS,
)
