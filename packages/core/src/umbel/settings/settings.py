"""The settings of an app: layered sources, read and checked together at their first use.

Importing this costs little: what reads and checks is loaded by the first look at a value.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError, near_matches
from umbel.settings.attributes import SettingAttributes
from umbel.settings.layers import DEFAULT_SOURCE, ObjectSource, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from umbel.settings.reading import PluginSettings, Reader
    from umbel.settings.resolve import Resolved
    from umbel.settings.schema import Setting


class Settings(SettingAttributes, Mapping[str, Any]):
    """`app.conf`: every setting by attribute or by item.

    Nothing is read or checked before the first look at a value; that look reads all sources and
    raises one ConfigError with all that is wrong. Values given later are checked at once.

    Args:
        app_name: For `repr`.
        table: The settings that there are, core's among them; None: core's. Plugins add theirs.
        given: What the app's constructor was given.
        plugin_settings: Returns (plugin, its rows) pairs; called before the sources are read.
        environ: The environment; None: the process's own.
        directory: Where to look for ``umbel.toml`` and ``pyproject.toml``, upward; None: the
            working directory.
        before_read: Called once, before the sources are read; may give settings, and look at
            values. Called again at the next try where one of them is wrong.
        after_read: Called once, when all is read and right.
        on_update: Called each time that values which were read have changed since.
    """

    def __init__(
        self,
        app_name: str = "",
        table: Iterable[Setting] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        plugin_settings: PluginSettings | None = None,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
        before_read: Callable[[], object] | None = None,
        after_read: Callable[[], object] | None = None,
        on_update: Callable[[], object] | None = None,
    ):
        self._app_name = app_name
        self._table = table
        self._constructor = dict(given or {})
        self._plugin_settings = plugin_settings
        self._environ = environ
        self._directory = directory
        self._updates: dict[str, Any] = {}
        self._objects: list[ObjectSource] = []
        self._opened: Reader | None = None
        #: Where each value is from; None: not read yet.
        self._sources: dict[str, str] | None = None
        self._before_read, self._after_read, self._on_update = before_read, after_read, on_update
        #: Whether `before_read` is called and the first reading under way, or over.
        self._begun = False
        #: Whether anybody can have seen a value.
        self._was_read = False
        self._lock = threading.RLock()

    # -- giving -------------------------------------------------------------------------------

    def update(self, *mappings: Mapping[str, Any], **values: Any) -> None:
        """Set settings; these win over all other sources. All or, where one is wrong, none.

        Raises: ConfigError: one is wrong. Before the first look at a value this comes later,
            with all that is wrong.
        """
        with self._lock:
            updates = dict(self._updates)
            for mapping in (*mappings, values):
                updates.update(mapping)
            if self._sources is None:
                self._updates = updates
                return
            self._accept(self._resolve(updates))
            self._updates = updates
            _call(self._on_update)

    def config_from_object(
        self,
        source: Any,
        *,
        namespace: str | None = None,
        silent: bool = False,
        force: bool = False,
    ) -> None:
        """Take settings from a module, class, instance or mapping, or the dotted name of one.

        Args:
            source: ``"proj.celeryconfig"``, ``"django.conf:settings"``, an object or a mapping.
            namespace: Read only names that begin with it: ``"CELERY"`` for
                ``CELERY_TASK_ALWAYS_EAGER``.
            silent: A module that doesn't exist is no error.
            force: Read it now rather than with all else at the first look at a value.
        Raises: ConfigError: with `force`, something is wrong.
        """
        with self._lock:
            self._objects.append(ObjectSource(source, namespace, silent))
            self._forget()
            if force:
                self.finalize()

    def config_from_envvar(
        self, variable: str, *, silent: bool = False, force: bool = False
    ) -> None:
        """Take settings from the module that an environment variable names.

        Raises: ConfigError: it isn't set, unless `silent`.
        """
        environ = os.environ if self._environ is None else self._environ
        if name := environ.get(variable):
            self.config_from_object(name, silent=silent, force=force)
        elif not silent:
            raise ConfigError(
                f"environment variable {variable!r} must name the module with the settings, "
                f"but it isn't set"
            )

    def add_settings(self, rows: Iterable[Setting], *, owner: str) -> None:
        """Add the settings of the plugin `owner`.

        Raises:
            PluginClashError: Somebody else has a setting of that name.
            ConfigError: A row makes no sense.
        """
        with self._lock:
            self._reader.add(rows, owner)
            self._forget()

    # -- reading ------------------------------------------------------------------------------

    def finalize(self) -> None:
        """Read all sources and check all values, unless that is done. Repeatable.

        Raises: ConfigError: with all that is wrong.
        """
        with self._lock:
            if self._begun:
                self._read()
                return
            self._begun = True
            try:
                _call(self._before_read)
                self._read()
            except BaseException:
                self._begun = False
                raise
        _call(self._after_read)

    @property
    def finalized(self) -> bool:
        """Whether the sources are read and all is well with them."""
        return self._sources is not None

    def problems(self) -> Sequence[Problem]:
        """Return all that is wrong with the settings; empty where all is well.

        Raises: ConfigError: an object can't be imported.
        """
        with self._lock:
            return self._resolve(self._updates).problems

    def source_of(self, name: str) -> str:
        """Return where the value of `name` is from, for people. Raises: KeyError."""
        return self._sources_by_name[self._known(name)]

    def setting(self, name: str) -> Setting:
        """Return the table's row of `name`. Raises: KeyError."""
        self.finalize()
        return self._reader.rows[self._known(name)]

    def owner_of(self, name: str) -> str:
        """Return who offers the setting `name`: ``"umbel"`` or a plugin. Raises: KeyError."""
        self.finalize()
        return self._reader.owners[self._known(name)]

    def table(self, with_defaults: bool = True, censored: bool = True) -> dict[str, Any]:
        """Return all settings with their values.

        Args:
            with_defaults: Also those that no source gives.
            censored: Mask passwords and secrets.
        """
        return {
            name: self._reader.censored(name, self[name]) if censored else self[name]
            for name, source in self._sources_by_name.items()
            if with_defaults or source != DEFAULT_SOURCE
        }

    def without_defaults(self) -> dict[str, Any]:
        """Return the settings that some source gives, uncensored."""
        return self.table(with_defaults=False, censored=False)

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the settings as lines of text."""
        table = self.table(with_defaults=with_defaults, censored=censored)
        return "\n".join(f"{name}: {value!r}" for name, value in table.items())

    def overrides(self) -> dict[str, Any]:
        """Return what some source gives, as far as it is plain data, uncensored.

        Another process makes the same settings of it: ``Settings(given=…)``.
        """
        return {k: value for k, value in self.without_defaults().items() if _is_plain(value)}

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[self._known(name)]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources_by_name)

    def __len__(self) -> int:
        return len(self._sources_by_name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.update({name: value})

    if not TYPE_CHECKING:
        # Hidden from type checkers: to them a misspelt attribute is an error. Values are plain
        # instance attributes once they are read, so this is called before that, or by mistake.
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            try:
                return self[name]
            except KeyError as exc:
                raise AttributeError(exc.args[0]) from None

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        state = "read" if self.finalized else "not read yet"
        return f"<Settings of app {self._app_name!r}, {state}>"

    # -- inside -------------------------------------------------------------------------------

    @property
    def _reader(self) -> Reader:
        if self._opened is None:
            # Loaded here to keep `import umbel` light.
            from umbel.settings.reading import Reader  # noqa: PLC0415

            self._opened = Reader(
                self._table,
                is_taken=lambda name: hasattr(Settings, name),
                plugin_settings=self._plugin_settings,
                environ=self._environ,
                directory=self._directory,
            )
        return self._opened

    @property
    def _sources_by_name(self) -> dict[str, str]:
        self.finalize()
        return self._sources or {}

    def _known(self, name: str) -> str:
        """Return `name` where it is a setting. Raises: KeyError."""
        known = self._sources_by_name
        if name in known:
            return name
        close = near_matches(name, known, limit=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise KeyError(f"there is no setting {name!r}{hint}")

    def _resolve(self, updates: Mapping[str, Any]) -> Resolved:
        return self._reader.resolve(updates, self._constructor, self._objects)

    def _read(self) -> None:
        if self._sources is not None:
            return
        self._accept(self._resolve(self._updates))
        was_read, self._was_read = self._was_read, True
        if was_read:
            _call(self._on_update)

    def _accept(self, resolved: Resolved) -> None:
        if resolved.problems:
            lines = "".join(f"\n  {problem}" for problem in resolved.problems)
            count = len(resolved.problems)
            raise ConfigError(
                lines.strip() if count == 1 else f"{count} settings are wrong:{lines}"
            )
        self.__dict__.update(resolved.values)
        self._sources = resolved.sources

    def _forget(self) -> None:
        """Make the next look at a value read all sources again."""
        for name in self._sources or ():
            self.__dict__.pop(name, None)
        self._sources = None
        if self._opened is not None:
            self._opened.forget()


def _call(function: Callable[[], object] | None) -> None:
    if function is not None:
        function()


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str, bytes))
