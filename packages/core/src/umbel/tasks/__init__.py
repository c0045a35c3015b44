"""Tasks: functions that can be called here, or sent to run elsewhere."""

from __future__ import annotations

from umbel.tasks.task import AsyncTask, Task

__all__ = ["AsyncTask", "Task"]
