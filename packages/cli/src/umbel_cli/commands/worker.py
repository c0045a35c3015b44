"""``umbel worker``: run a worker node until it is told to stop."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from umbel.worker.queue_order import QueueOrder
from umbel.worker.reloading import Restart
from umbel.worker.stop_signals import heed_while_starting
from umbel.worker.worker import Worker
from umbel_cli.app_loading import import_tasks
from umbel_cli.banner import banner
from umbel_cli.commands.values import NameList, flatten
from umbel_cli.state import CliState, pass_state

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


@click.command()
@click.option("-P", "--pool", help="solo, threads, process or asyncio; plugins add more.")
@click.option("-c", "--concurrency", type=click.IntRange(1), help="How many tasks at once, in all.")
@click.option(
    "--processes", type=click.IntRange(1), help="How many processes share the concurrency."
)
@click.option("-Q", "--queues", type=NameList(), multiple=True, help="Consume these: a,b")
@click.option("-X", "--exclude-queues", type=NameList(), multiple=True, help="But not these: a,b")
@click.option(
    "--queue-order",
    type=click.Choice([each.value for each in QueueOrder]),
    help="Which queue to look into first.  [default: round_robin]",
)
@click.option("-I", "--include", type=NameList(), multiple=True, help="Import these modules too.")
@click.option("-n", "--hostname", metavar="NAME", help="Name of the node: name@%h (%h %n %d).")
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(_LEVELS, case_sensitive=False),
    help="Log this and worse.  [default: WARNING]",
)
@click.option("-f", "--logfile", type=click.Path(dir_okay=False), help="Log to this file.")
@click.option("-E", "--task-events", is_flag=True, help="Send events for monitors.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="End a task after this.")
@click.option(
    "--soft-time-limit", type=float, metavar="SECONDS", help="Raise in a task after this."
)
@click.option(
    "--max-tasks-per-child", type=click.IntRange(1), help="Replace a process after so many."
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(1),
    metavar="KILOBYTES",
    help="Replace a process that has more after a task.",
)
@click.option("--autoscale", metavar="MAX,MIN", help="Let the number of processes follow the load.")
@click.option(
    "--prefetch-multiplier", type=click.IntRange(0), help="Hold at most so many per slot."
)
@click.option("--purge", is_flag=True, help="Drop what waits in the queues first; asks.")
@click.option("--yes", is_flag=True, help="Don't ask before --purge.")
@click.option("--reload", is_flag=True, help="Start anew when a file of the app changes.")
@click.option("--check", is_flag=True, help="Only tell whether a worker could start so.")
@pass_state
def worker(
    state: CliState,
    /,
    queues: tuple[tuple[str, ...], ...],
    exclude_queues: tuple[tuple[str, ...], ...],
    queue_order: str | None,
    include: tuple[tuple[str, ...], ...],
    yes: bool,
    check: bool,
    **options: Any,
) -> None:
    """Run a worker: take tasks from queues and run them.

    Ctrl-C or TERM stops it: what runs is finished, what was only taken is given back. HUP reloads
    the code, where no terminal is attached; USR1 writes down what each process is doing.
    """
    restart = None
    if state.is_program:
        restart = _restart()
        heed_while_starting()
    loaded = state.loaded_app()
    overrides: dict[str, Any] = dict(state.overrides())
    if state.config is not None:
        overrides = loaded.app.conf.overrides()  # child processes know nothing of --config
    if include:
        overrides["include"] = [*loaded.app.conf.include, *flatten(include)]
    if queue_order:
        overrides["worker_queue_order"] = queue_order
    if options["purge"] and not (yes or check):
        click.confirm("Drop all messages that wait in the queues first?", abort=True, err=True)
    chosen = {name: value for name, value in options.items() if value not in (None, False)}
    node = Worker(
        loaded.app,
        app_path=loaded.path,
        queues=flatten(queues) or None,
        exclude_queues=flatten(exclude_queues),
        overrides=overrides,
        restart=restart,
        **chosen,
    )
    import_tasks(loaded)
    if check:
        return
    if not state.quiet:
        click.echo(banner(node, loaded, show_tasks=_shows_info(options["loglevel"])))
    click.get_current_context().exit(node.run())


def _restart() -> Restart:
    """Return how to start this command again; a purge was meant for once."""
    options = [each for each in sys.orig_argv[1:] if each != "--purge"]
    command = [sys.executable, *options]
    return Restart(command=command, check=[*command, "--check"])


def _shows_info(level: str | None) -> bool:
    return level is not None and logging.getLevelNamesMapping()[level.upper()] <= logging.INFO
