"""The worker's log output: a handler on the logger ``umbel``; the root logger is left alone.

With ``worker_hijack_root_logger`` the handler goes on the root logger in the place of others.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from umbel.logs import TaskContextFilter

DEFAULT_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
DEFAULT_TASK_FORMAT = (
    "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
)


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker logs."""

    #: A level's name or number; None: leave logging as it is.
    level: str | int | None = "WARNING"
    #: Path of a file to append to; None: standard error.
    file: str | None = None
    format: str = DEFAULT_FORMAT
    task_format: str = DEFAULT_TASK_FORMAT
    hijack_root: bool = False


class _Formatter(logging.Formatter):
    """Uses the task format for what is logged inside a task."""

    def __init__(self, plain: str, task: str):
        super().__init__(plain)
        self._task = logging.Formatter(task)

    def format(self, record: logging.LogRecord) -> str:
        """Format the record by where it comes from."""
        if getattr(record, "in_task", False):
            return self._task.format(record)
        return super().format(record)


def set_up_logging(options: LogOptions) -> None:
    """Add the worker's handler, once a process.

    To be called again when the app is loaded: it may have set up the root logger.
    """
    if options.level is None:
        return
    logger = logging.getLogger() if options.hijack_root else logging.getLogger("umbel")
    logger.setLevel(options.level)
    if not any(isinstance(handler.formatter, _Formatter) for handler in logger.handlers):
        _add_handler(logger, options)
    if not options.hijack_root and logging.getLogger().handlers:
        # The app has handlers of its own on the root logger; each line is to appear once.
        logger.propagate = False


def _add_handler(logger: logging.Logger, options: LogOptions) -> None:
    if options.hijack_root:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
    handler = (
        logging.FileHandler(options.file, encoding="utf-8")
        if options.file
        else logging.StreamHandler(sys.stderr)
    )
    handler.setFormatter(_Formatter(options.format, options.task_format))
    handler.addFilter(TaskContextFilter())
    logger.addHandler(handler)
