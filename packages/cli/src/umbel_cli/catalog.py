"""The sub-commands there are: ours, and those that plugins offer by the hook.

Ours are found without loading a plugin, so no plugin can break or slow them. A plugin whose
hooks can't be loaded costs one line in ``umbel --help``, and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, cast

import click
import pluggy

from umbel_cli import hooks as own_hooks
from umbel_cli import hookspecs
from umbel_cli.entry_points import EntryPoint, find_entry_points

_OWN = "umbel-cli"
#: Entry points that have no commands for us: core has none, and our own are here already.
_PASSED_OVER = frozenset({"umbel.builtin.hooks", own_hooks.__name__})


class Offered(NamedTuple):
    """A sub-command that somebody offers."""

    name: str
    help: str
    #: The distribution that it is from.
    plugin: str
    #: Import it, if need be, and return it.
    load: Callable[[], click.Command]

    @property
    def is_own(self) -> bool:
        """Whether it is one of this package's."""
        return self.plugin == _OWN


class Catalog:
    """All sub-commands, each looked for when it is needed.

    Args:
        find: Returns the plugins' entry points.
    """

    def __init__(self, find: Callable[[], Sequence[EntryPoint]] = find_entry_points) -> None:
        self._find = find
        #: What is wrong with plugins and their commands, for people.
        self.problems: list[str] = []

    def find(self, name: str) -> Offered | None:
        """Return the sub-command of that name; None where there is none."""
        return self._own.get(name) or self._others.get(name)

    def all(self) -> list[Offered]:
        """Return all sub-commands: ours in their order, then those of plugins by name."""
        return [*self._own.values(), *self._others.values()]

    @cached_property
    def _own(self) -> dict[str, Offered]:
        offered = (_offered(each, _OWN) for each in own_hooks.umbel_commands())
        return {each.name: each for each in offered}

    @cached_property
    def _others(self) -> dict[str, Offered]:
        entries = [entry for entry in self._find() if entry.module not in _PASSED_OVER]
        found: dict[str, Offered] = {}
        for offered in self._ask(entries) if entries else ():
            holder = self._own.get(offered.name) or found.get(offered.name)
            if holder is None:
                found[offered.name] = offered
                continue
            self.problems.append(
                f"command {offered.name!r} is offered by {holder.plugin} and by {offered.plugin}"
                f"{'; the first one is used' if holder.is_own else ''}"
            )
            if not holder.is_own:
                found[offered.name] = holder._replace(load=partial(_clash, holder, offered))
        return dict(sorted(found.items()))

    def _ask(self, entries: Sequence[EntryPoint]) -> list[Offered]:
        """Load the hooks of `entries`, and ask each for its commands."""
        manager = pluggy.PluginManager("umbel")
        manager.add_hookspecs(hookspecs)
        found: list[Offered] = []
        for entry in entries:
            try:
                module = importlib.import_module(entry.module)
                manager.register(module, name=entry.label)
                found += _offers_of(manager, module, entry.label)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - its fault is its own
                self.problems.append(
                    f"plugin {entry.label} can't be loaded: {type(error).__name__}: {error}"
                )
        return found


def _offers_of(manager: pluggy.PluginManager, module: Any, label: str) -> list[Offered]:
    offers: list[Any] = []
    for implementation in manager.hook.umbel_commands.get_hookimpls():
        if implementation.plugin is module:
            offers += cast("Sequence[Any]", implementation.function() or ())
    return [_offered(each, label) for each in offers]


def _offered(command: Any, plugin: str) -> Offered:
    if isinstance(command, click.Command):
        name = command.name or ""
        return Offered(name, command.get_short_help_str(60), plugin, lambda: command)
    name, target, help_text = command
    return Offered(name, help_text, plugin, lambda: _load(name, target, plugin))


def _clash(one: Offered, other: Offered) -> click.Command:
    from umbel.errors import PluginClashError  # noqa: PLC0415 - --help needs none of it

    raise PluginClashError("command", one.name, [one.plugin, other.plugin])


def _load(name: str, target: str, plugin: str) -> click.Command:
    module_name, _, attribute = target.partition(":")
    try:
        command = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        if plugin == _OWN:
            raise
        raise click.ClickException(
            f"command {name!r} of plugin {plugin} can't be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"command {name!r} of plugin {plugin} isn't a click command: {target} is a "
            f"{type(command).__name__}"
        )
    return command
