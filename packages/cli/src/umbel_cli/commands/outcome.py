"""Show what came of a task: what ``umbel result`` and ``umbel call --wait`` have in common."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from umbel.errors import ResultTimeoutError
from umbel_cli.exits import ExitCode
from umbel_cli.output import print_json

if TYPE_CHECKING:
    from umbel.results import AsyncResult
    from umbel_cli.state import CliState


def show_outcome(
    state: CliState,
    result: AsyncResult[Any],
    *,
    wait: bool,
    timeout_s: float | None = None,
    traceback: bool = False,
) -> None:
    """Print the result of a task, and exit with the code that fits.

    Args:
        state: The run's global options.
        result: Whose.
        wait: Wait for a final state, at most `timeout_s` seconds (None: as long as it takes).
        traceback: Print a failed task's traceback rather than its error alone.
    """
    if wait:
        with suppress(ResultTimeoutError):  # it is shown as it stands
            result.get(timeout=timeout_s, propagate=False)
    code = _code_of(result)
    if state.json:
        _print_document(result, traceback=traceback)
    elif code is ExitCode.OK:
        click.echo(_text_of(result.result))
    elif code is ExitCode.NOT_READY:
        state.note(f"no result yet: {result.id} is {result.state}")
    else:
        error = result.result
        text = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
        shown = result.traceback if traceback and result.traceback else text
        click.echo(f"{result.state}: {shown}" if shown is text else shown, err=True)
    click.get_current_context().exit(code)


def _code_of(result: AsyncResult[Any]) -> ExitCode:
    if not result.ready():
        return ExitCode.NOT_READY
    return ExitCode.OK if result.successful() else ExitCode.FAILED


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _print_document(result: AsyncResult[Any], *, traceback: bool) -> None:
    value = result.result
    failed = isinstance(value, BaseException)
    document = {
        "id": result.id,
        "state": result.state,
        "result": None if failed else value,
        "error": f"{type(value).__name__}: {value}" if failed else None,
        "date_done": result.date_done,
    }
    if traceback:
        document["traceback"] = result.traceback
    print_json(document)
