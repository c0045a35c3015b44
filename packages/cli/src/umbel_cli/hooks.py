"""The command line's own sub-commands, offered by the same hook as everybody's."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from umbel_cli.hookspecs import LazyCommand

# The marker of umbel.hookspecs, without importing umbel: `umbel --help` needs none of it.
hookimpl = pluggy.HookimplMarker("umbel")

_COMMANDS = "umbel_cli.commands"


@hookimpl(optionalhook=True)
def umbel_commands() -> Sequence[LazyCommand]:
    """Offer what this package brings."""
    return (
        LazyCommand(
            "worker", f"{_COMMANDS}.worker:worker", "Run a worker: take tasks and run them."
        ),
        LazyCommand("call", f"{_COMMANDS}.call:call", "Send a task."),
        LazyCommand("result", f"{_COMMANDS}.result:result", "Show what came of a task."),
        LazyCommand("revoke", f"{_COMMANDS}.revoke:revoke", "Take tasks back."),
        LazyCommand("inspect", f"{_COMMANDS}.inspect:inspect", "Ask workers what they do."),
        LazyCommand("control", f"{_COMMANDS}.control:control", "Tell workers what to do."),
        LazyCommand("queue", f"{_COMMANDS}.queues:queues", "Show queues, pause and resume them."),
        LazyCommand("queues", f"{_COMMANDS}.queues:queues", "Show queues; the same as queue."),
        LazyCommand(
            "delayed",
            f"{_COMMANDS}.delayed:delayed",
            "Look at what waits for its time; run it now.",
        ),
        LazyCommand("dlq", f"{_COMMANDS}.dlq:dlq", "Look at dead letters, and send them again."),
        LazyCommand("purge", f"{_COMMANDS}.purge:purge", "Drop all that waits in queues."),
        LazyCommand("config", f"{_COMMANDS}.config:config", "Show and check the settings."),
        LazyCommand("plugins", f"{_COMMANDS}.plugins:plugins", "Show what is installed."),
        LazyCommand("report", f"{_COMMANDS}.report:report", "Print versions and settings."),
        LazyCommand(
            "completion", f"{_COMMANDS}.completion:completion", "Print a script for your shell."
        ),
        LazyCommand("demo", f"{_COMMANDS}.demo:demo", "Index the standard library, for a look."),
    )
