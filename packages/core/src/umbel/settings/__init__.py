"""Settings: one table of what there is, layered sources of values, and errors that help.

`umbel.settings.table` has the rows of core, `umbel.settings.sources` the order of sources.
"""

from __future__ import annotations

from umbel.settings.layers import Problem
from umbel.settings.schema import Setting
from umbel.settings.settings import Settings

__all__ = ["Problem", "Setting", "Settings"]
