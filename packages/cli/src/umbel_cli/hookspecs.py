"""The hook that gives `umbel` its sub-commands.

It belongs to this package, so another package marks its implementation as optional:
``@hookimpl(optionalhook=True)``. Then it also loads where the command line isn't installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pluggy

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("umbel")


class LazyCommand(NamedTuple):
    """A sub-command whose module is imported when it is used. A plain tuple does as well."""

    name: str
    #: ``"package.module:attribute"``, naming a click command.
    target: str
    #: One line for ``umbel --help``.
    help: str


@hookspec
def umbel_commands() -> Sequence[click.Command | LazyCommand]:  # type: ignore[empty-body]
    """Offer sub-commands of `umbel`. Called at each start of the command line.

    Return lazy ones: who asks for ``umbel --help`` then pays for none of their imports. A command
    gets the app with `umbel_cli.context.pass_app`; the global options (``-A``, ``--json`` …) are
    added to it. Two commands of one name are an error that names both packages.
    """
