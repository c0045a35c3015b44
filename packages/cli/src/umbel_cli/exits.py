"""Exit codes, the same for every sub-command, so that scripts can tell failures apart."""

from __future__ import annotations

import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """What `umbel` ends with. 69 and 75 are those of BSD's sysexits.h."""

    OK = 0
    #: The operation failed, or the task that was waited for did.
    FAILED = 1
    #: The command line makes no sense.
    USAGE = 2
    #: ``-A`` names an app that can't be loaded.
    APP_NOT_LOADED = 3
    #: A setting or URL is wrong, or needs a plugin that isn't installed.
    CONFIG = 4
    #: Broker, backend or workers can't be reached.
    UNAVAILABLE = 69
    #: Nothing is wrong, but the result isn't there yet.
    NOT_READY = 75
    #: Ended by Ctrl-C: 128 + SIGINT, as shells have it.
    INTERRUPTED = 130


#: For the end of ``umbel --help``.
EXIT_CODES_HELP = (
    "Exit codes: 0 done · 1 failed, or the task did · 2 wrong usage · 3 app can't be loaded · "
    "4 wrong setting · 69 broker, backend or workers can't be reached · 75 no result yet · 130 Ctrl-C"
)


def is_umbel_error(error: BaseException) -> bool:
    """Tell whether umbel raised `error` on purpose; imports nothing to find out."""
    errors = sys.modules.get("umbel.errors")
    return errors is not None and isinstance(error, errors.UmbelError)


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the code to end with after `error`, an UmbelError."""
    from umbel import errors  # noqa: PLC0415 - only reached where umbel is loaded

    match error:
        case errors.AppLoadError():
            return ExitCode.APP_NOT_LOADED
        case errors.ConfigError() | errors.PluginError():
            return ExitCode.CONFIG
        case errors.BrokerUnavailableError() | errors.BackendUnavailableError():
            return ExitCode.UNAVAILABLE
        case errors.ResultTimeoutError():
            return ExitCode.NOT_READY
        case _:
            return ExitCode.FAILED
