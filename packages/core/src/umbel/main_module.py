"""The module that is run as a program, and the name by which others would import it."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from umbel.functions import short_name

if TYPE_CHECKING:
    from umbel.tasks.definition import TaskDefinition

logger = logging.getLogger("umbel")


def main_module() -> str | None:
    """Return the name that others import the module by which is run as a program."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        name: str = spec.name
        return name.removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    return os.path.basename(path).removesuffix(".py") if path else None  # noqa: PTH119 - quick


def warn_of_name(task: TaskDefinition) -> None:
    """Warn where a worker that imports the program would call the task by another name."""
    imported = main_module()
    function = task.function
    if imported is None or not task.name.endswith(f".{short_name(function)}"):
        return
    expected = f"{imported}.{short_name(function)}"
    if task.name != expected:
        logger.warning(
            "task %s is named so as this program is run; a worker that imports it as %r calls it "
            "%s and won't know this one: name the app %r, or give the task a name=",
            task.name,
            imported,
            expected,
            imported,
        )
