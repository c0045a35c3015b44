"""Plugins: found by entry point, loaded each for itself, asked for what they offer.

A plugin that can't be loaded is noted with its reason and takes no other down; it becomes an
error only when something that no other plugin offers is asked for. Nothing is loaded before the
first question. Core's own brokers and pools come in through its own entry point.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.errors import PluginClashError, PluginError, UnknownPluginError, near_matches

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import pluggy

logger = logging.getLogger("umbel.plugins")

#: The entry-point group of plugins.
GROUP = "umbel"
#: Core's own entry: name and hooks module.
_CORE = ("core", "umbel.builtin.hooks")
#: Which extra of umbel brings a name. Data: core knows no plugin by name in its code.
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "redis": "redis",
        "rediss": "redis",
        "redis+socket": "redis",
        "redis+cluster": "redis",
        "rediss+cluster": "redis",
        "sentinel": "redis",
        "sqs": "sqs",
        "mongodb": "mongo",
        "mongodb+srv": "mongo",
        "amqp": "amqp",
        "amqps": "amqp",
        "pyamqp": "amqp",
    }
)


class Kind(StrEnum):
    """What plugins offer."""

    BROKER = "broker"
    BACKEND = "backend"
    COORDINATOR = "coordinator"
    SERIALIZER = "serializer"
    POOL = "pool"
    SCHEDULER = "scheduler"
    SETTING = "setting"

    @property
    def hook(self) -> str:
        """The hook that asks for it."""
        return f"umbel_{self.value}s"


class PluginReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one plugin stands, for ``umbel plugins``."""

    #: Name of its entry point.
    name: str
    #: Its distribution and that one's version; None where the plugin was handed in.
    distribution: str | None = None
    version: str | None = None
    #: Why it isn't used, wholly or for one kind; None: it is well.
    error: str | None = None
    #: Kind → names that it offers.
    offers: Mapping[str, Sequence[str]] = {}
    #: Milliseconds that loading took.
    load_ms: float = 0.0

    @property
    def state(self) -> str:
        """``"ok"`` or ``"failed"``."""
        return "ok" if self.error is None else "failed"


class _Plugin:
    """One plugin and what is known of it."""

    def __init__(self, name: str, distribution: str | None, version: str | None) -> None:
        self.name, self.distribution, self.version = name, distribution, version
        self.module: Any = None
        self.error: str | None = None
        self.load_ms = 0.0
        self.offers: dict[Kind, dict[str, Any]] = {}

    @property
    def label(self) -> str:
        """Name for people: the distribution's, where there is one."""
        return self.distribution or self.name


class PluginManager:
    """The plugins of this process.

    Args:
        extra: Hook modules or objects to use besides the installed ones: tests, and programs
            that bring a plugin of their own.
        installed: Whether to look for installed plugins.
    """

    def __init__(self, extra: Iterable[Any] = (), *, installed: bool = True) -> None:
        self._extra, self._installed = tuple(extra), installed
        self._lock = threading.RLock()
        self._plugins: list[_Plugin] | None = None
        self._hooks: pluggy.PluginManager | None = None
        self._offers: dict[Kind, dict[str, list[tuple[_Plugin, Any]]]] = {}

    def offer(self, kind: Kind, name: str) -> Any:
        """Return what is offered as `name`.

        Raises:
            UnknownPluginError: nobody offers it; the text says what to install.
            PluginClashError: two plugins do.
            PluginError: the one that would can't be loaded.
        """
        found = self._offered(kind).get(name)
        if found is None:
            raise self._unknown(kind, name)
        if len(found) > 1:
            raise PluginClashError(kind, name, sorted(plugin.label for plugin, _ in found))
        return found[0][1]

    def names(self, kind: Kind) -> list[str]:
        """Return all names that are offered, sorted."""
        return sorted(self._offered(kind))

    def all(self, kind: Kind) -> dict[str, Any]:
        """Return all that is offered by name. Raises: PluginClashError."""
        return {name: self.offer(kind, name) for name in self.names(kind)}

    def offers(self, kind: Kind, name: str) -> bool:
        """Tell whether anybody offers `name`."""
        return name in self._offered(kind)

    def listeners(self, event: str) -> tuple[Callable[..., Any], ...]:
        """Return who listens to the hook ``umbel_<event>``, in the order to call them.

        That is pluggy's: who says ``tryfirst``, then the last loaded first, then ``trylast``. Each takes the hook's arguments by position, whichever of them its function wants.
        """
        hook = getattr(self._loaded().hook, f"umbel_{event}")
        names = tuple(hook.spec.argnames)
        implementations = reversed(hook.get_hookimpls())
        return tuple(_by_position(each.function, each.argnames, names) for each in implementations)

    def settings(self) -> list[tuple[str, list[Any]]]:
        """Return the settings that plugins offer: (name of the plugin, its rows) for each."""
        self._offered(Kind.SETTING)
        found = [(each.label, each.offers.get(Kind.SETTING, {})) for each in self._plugins or ()]
        return [(label, list(rows.values())) for label, rows in found if rows]

    def report(self) -> list[PluginReport]:
        """Return how each plugin stands, by name. Asks all for all that they offer."""
        for kind in Kind:
            self._offered(kind)
        assert self._plugins is not None  # noqa: S101 - _offered has loaded them
        return [
            PluginReport(
                name=plugin.name,
                distribution=plugin.distribution,
                version=plugin.version,
                error=plugin.error,
                offers={kind: sorted(found) for kind, found in plugin.offers.items() if found},
                load_ms=plugin.load_ms,
            )
            for plugin in sorted(self._plugins, key=lambda each: each.name)
        ]

    def _unknown(self, kind: Kind, name: str) -> PluginError:
        known = self.names(kind)
        failed = [plugin for plugin in self._plugins or () if plugin.error is not None]
        extra = EXTRAS.get(name)
        suspects = [each for each in failed if name in each.name or (extra and extra in each.name)]
        if suspects:
            reasons = "; ".join(f"{each.label}: {each.error}" for each in suspects)
            return PluginError(f"no {kind} named {name!r}, since its plugin failed ({reasons})")
        install = None
        if extra is not None and not near_matches(name, known, limit=1):
            install = f'pip install "umbel[{extra}]"'
        return UnknownPluginError(kind, name, known, install)

    def _offered(self, kind: Kind) -> dict[str, list[tuple[_Plugin, Any]]]:
        """Return name → who offers it; plugins are asked once a process."""
        found = self._offers.get(kind)
        if found is not None:
            return found
        with self._lock:
            found = {}
            for implementation in reversed(getattr(self._loaded().hook, kind.hook).get_hookimpls()):
                plugin = self._plugin_of(implementation.plugin)
                try:
                    offer = _as_mapping(kind, implementation.function())
                except Exception as exc:  # noqa: BLE001 - one plugin's fault is its own
                    self._fail(plugin, f"{kind.hook}() failed: {_reason(exc)}")
                    continue
                plugin.offers[kind] = offer
                for name, value in offer.items():
                    found.setdefault(name, []).append((plugin, value))
            self._offers[kind] = found
            return found

    def _plugin_of(self, module: Any) -> _Plugin:
        return next(each for each in self._plugins or () if each.module is module)

    def _loaded(self) -> pluggy.PluginManager:
        """Return the hooks, with all plugins loaded."""
        if self._hooks is not None:
            return self._hooks
        with self._lock:
            if self._hooks is None:
                self._plugins = []
                self._hooks = self._load()
            return self._hooks

    def _load(self) -> pluggy.PluginManager:
        import pluggy  # noqa: PLC0415 - a program that only defines tasks needs no plugins

        from umbel import hookspecs  # noqa: PLC0415 - imports pluggy

        hooks = pluggy.PluginManager(GROUP)
        hooks.add_hookspecs(hookspecs)
        for module in self._extra:
            name = getattr(module, "__name__", None) or type(module).__name__
            self._register(hooks, _Plugin(name, None, None), partial(_itself, module))
        if self._installed:
            for entry in _entry_points():
                distribution = entry.dist
                plugin = _Plugin(
                    entry.name,
                    distribution.name if distribution is not None else None,
                    distribution.version if distribution is not None else None,
                )
                self._register(hooks, plugin, entry.load)
        return hooks

    def _register(
        self, hooks: pluggy.PluginManager, plugin: _Plugin, load: Callable[[], Any]
    ) -> None:
        assert self._plugins is not None  # noqa: S101 - set by _loaded
        self._plugins.append(plugin)
        started = time.perf_counter()
        try:
            plugin.module = load()
            hooks.register(plugin.module, name=plugin.name)
            problem = _problem(hooks, plugin.module)
            if problem is not None:
                hooks.unregister(plugin.module)
                self._fail(plugin, problem)
        except BaseException as exc:
            if not isinstance(exc, (Exception, SystemExit)):
                raise
            if plugin.module is not None and hooks.is_registered(plugin.module):
                hooks.unregister(plugin.module)
            self._fail(plugin, _reason(exc))
        plugin.load_ms = (time.perf_counter() - started) * 1000

    def _fail(self, plugin: _Plugin, reason: str) -> None:
        if plugin.error is None:
            plugin.error = reason
            logger.warning("plugin %s isn't used: %s", plugin.label, reason)


@cache
def installed_plugins() -> PluginManager:
    """Return the installed plugins: the same for all apps of the process, which read them only."""
    return PluginManager()


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    """Return the installed plugins' entry points, core's first, each once."""
    from importlib.metadata import EntryPoint, entry_points  # noqa: PLC0415 - costs milliseconds

    # Programs that carry umbel without its metadata (frozen, zipped) have what core offers too.
    core = EntryPoint(*_CORE, GROUP)
    found = {(core.name, core.value): core}
    found.update({(entry.name, entry.value): entry for entry in entry_points(group=GROUP)})
    return tuple(sorted(found.values(), key=lambda entry: (entry.name != "core", entry.name)))


def _problem(hooks: pluggy.PluginManager, module: Any) -> str | None:
    """Say what is wrong with a plugin's hooks; None: nothing."""
    for caller in hooks.get_hookcallers(module) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not module:
                continue
            if not caller.has_spec() and not implementation.optionalhook:
                known = [name for name in vars(hooks.hook) if not name.startswith("_")]
                close = near_matches(caller.name, [n for n in known if n != caller.name], limit=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                return f"it implements {caller.name}, which umbel doesn't have{hint}"
            if implementation.hookwrapper or implementation.wrapper:
                return f"{caller.name} is a wrapper; umbel's hooks take plain functions only"
    return None


def _itself(module: Any) -> Any:
    return module


def _as_mapping(kind: Kind, offer: Any) -> dict[str, Any]:
    if offer is None:
        return {}
    if isinstance(offer, Mapping):
        return dict(offer)
    if kind in (Kind.SERIALIZER, Kind.POOL, Kind.SETTING):
        return {each.name: each for each in offer}
    raise PluginError(f"{kind.hook}() must return a mapping, not {type(offer).__name__}")


def _by_position(
    function: Callable[..., Any], wanted: Sequence[str], given: Sequence[str]
) -> Callable[..., Any]:
    """Return `function` so that it can be called with all of `given`, by position."""
    if tuple(wanted) == tuple(given):
        return function
    at = tuple(given.index(name) for name in wanted)

    def call(*args: Any) -> Any:
        return function(*(args[index] for index in at))

    call.__module__, call.__qualname__ = function.__module__, function.__qualname__
    return call


def _reason(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
