"""Reads all sources and makes values of them: the part of `Settings` behind its first use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from umbel.errors import ConfigError, PluginClashError
from umbel.redaction import MASK, mask_value
from umbel.settings.forms import MismatchError, check_form, convert
from umbel.settings.layers import Layer, ObjectSource
from umbel.settings.resolve import Resolved, is_hidden, resolve
from umbel.settings.schema import Setting
from umbel.settings.sources import given_by_code, outer_layers
from umbel.settings.table import SETTINGS

#: Who owns the rows of the core table, in errors and documentation.
CORE = "umbel"

#: Returns the plugins' rows: (name of the plugin, its rows) for each.
PluginSettings = Callable[[], Iterable[tuple[str, Sequence[Setting]]]]


class Reader:
    """Knows the rows, and keeps what the environment, objects and files gave."""

    def __init__(
        self,
        rows: Iterable[Setting] | None,
        *,
        is_taken: Callable[[str], bool],
        plugin_settings: PluginSettings | None,
        environ: Mapping[str, str] | None,
        directory: Path | None,
    ):
        #: Settings by name, in the table's order.
        self.rows: dict[str, Setting] = {}
        #: Who offers each.
        self.owners: dict[str, str] = {}
        self._is_taken = is_taken
        self._plugin_settings = plugin_settings
        self._environ = environ
        self._directory = directory
        self._outer: list[Layer] | None = None
        for row in SETTINGS if rows is None else rows:
            self.rows[row.name] = row
            self.owners[row.name] = CORE

    def add(self, rows: Iterable[Setting], owner: str) -> None:
        """Add the rows of the plugin `owner`; the same rows again change nothing.

        Raises:
            PluginClashError: Somebody else has a setting of that name.
            ConfigError: A row makes no sense.
        """
        for row in rows:
            named = row if row.group else msgspec.structs.replace(row, group=owner)
            if (other := self.owners.get(row.name)) is not None:
                if other == owner and self.rows[row.name] == named:
                    continue
                raise PluginClashError("setting", row.name, (other, owner))
            if wrong := self._wrong_with(row):
                raise ConfigError(f"setting {row.name!r} of plugin {owner!r} is wrong: {wrong}")
            self.rows[row.name] = named
            self.owners[row.name] = owner

    def resolve(
        self,
        updates: Mapping[str, Any],
        constructor: Mapping[str, Any],
        objects: Sequence[ObjectSource],
    ) -> Resolved:
        """Return all values, or what is wrong. Sources outside of the app are read once.

        Raises: PluginClashError, ConfigError: as `add`, or an object can't be imported.
        """
        if self._plugin_settings is not None:
            for owner, rows in self._plugin_settings():
                self.add(rows, owner)
            self._plugin_settings = None
        if self._outer is None:
            self._outer = outer_layers(
                objects, self.rows, environ=self._environ, directory=self._directory
            )
        layers = [
            Layer(given_by_code(updates, "conf.update()")),
            Layer(given_by_code(constructor, "constructor of the app")),
            *self._outer,
        ]
        return resolve(self.rows, layers)

    def forget(self) -> None:
        """Read the sources again the next time."""
        self._outer = None

    def censored(self, name: str, value: Any) -> Any:
        """Return the value of `name` as it may be shown."""
        if is_hidden(self.rows[name]):
            return None if value is None else MASK
        return mask_value(value)

    def _wrong_with(self, row: Setting) -> str | None:
        if not (row.name.isidentifier() and row.name.islower()) or row.name.startswith("_"):
            return "its name must be a lower-case identifier"
        if self._is_taken(row.name):
            return "app.conf has a method of this name"
        if not row.help.strip():
            return "it needs a line of help"
        try:
            check_form(row.type)
            convert(row.default, row.type, row.unit)
        except MismatchError as exc:
            return str(exc) or f"its default {row.default!r} doesn't fit its type"
        return None
