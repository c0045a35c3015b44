"""Logging of tasks: which task a line belongs to, without touching anybody's configuration."""

from __future__ import annotations

import logging

from umbel.requests import current_request

#: Parent of all task loggers.
TASK_LOGGER = "umbel.task"


class TaskContextFilter(logging.Filter):
    """Gives each record the `task_name` and `task_id` of the task that logs it, or None.

    Put it on a handler of your own to use ``%(task_name)s`` and ``%(task_id)s`` in its format.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Fill in the record; lets every record through."""
        request = current_request()
        record.in_task = request.id is not None
        if not hasattr(record, "task_id"):
            record.task_name, record.task_id = request.task, request.id
        return True


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger for the tasks of module `name`; a worker shows what it logs."""
    if name == TASK_LOGGER or name.startswith(f"{TASK_LOGGER}."):
        return logging.getLogger(name)
    return logging.getLogger(f"{TASK_LOGGER}.{name}")
