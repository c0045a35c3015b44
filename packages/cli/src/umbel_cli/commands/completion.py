"""``umbel completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands and options.

    In bash: source <(umbel completion bash)
    """
    root = context.find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click knows nothing of {shell}")
    name = root.info_name or "umbel"
    click.echo(kind(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())
