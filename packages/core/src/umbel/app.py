"""The app: where tasks, settings, plugins and connections of one program come together.

Making an app opens nothing, imports no plugin and reads no settings; each happens at the first
use of what needs it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from umbel.autodiscovery import Packages, import_entry_points, import_modules, related_modules
from umbel.canvas_making import CanvasMaking
from umbel.clock import SYSTEM_CLOCK, Clock
from umbel.current_app import add_app, live_apps, set_current, take_shared_tasks
from umbel.events import EVENTS, Events, notify
from umbel.functions import is_coroutine_function, short_name
from umbel.handles import Handles
from umbel.ids import IdFactory, new_id
from umbel.main_module import main_module, warn_of_name
from umbel.plugins import Kind, PluginManager, installed_plugins
from umbel.publishing.publisher import PublishListeners
from umbel.registry import TaskRegistry
from umbel.sending import SendingApp
from umbel.serializers import Serializers
from umbel.settings import Settings
from umbel.signal_bridge import SignalBridge
from umbel.signals import EVERY_APP, Signal, Signals
from umbel.tasks.task import AsyncTask, Task

if TYPE_CHECKING:
    from umbel.interfaces.pool import PoolSpec
    from umbel.interfaces.serializer import Serializer
    from umbel.tasks.decorators import TaskMaker
    from umbel.worker.embedded import EmbeddedWorker

T = TypeVar("T", bound=Task[..., Any])


class Umbel(SendingApp, CanvasMaking):
    """A program's tasks, and the way to its broker and results.

    Two apps of one process know nothing of each other. May be used as a context manager, which
    closes its connections.

    Args:
        main: The app's name. Tasks of the module that is run as a program are named after it.
        broker: URL of the broker; None: a file, ``./.umbel/umbel.db``.
        backend: URL of the result backend; None: with the broker, where that is embedded.
        include: Modules with tasks, imported when a worker starts.
        task_cls: Base class of all tasks without ``base=``.
        set_as_current: Make this app the one that shared tasks resolve to.
        clock: Where to read the time.
        ids: Where to get ids.
        plugins: Who offers brokers, backends and all else; None: the installed plugins.
        **settings: Settings by name, such as ``task_acks_late=False``.
    """

    #: Base class of tasks; a subclass of the app may set it.
    task_cls: type[Task[..., Any]] | None = None

    def __init__(
        self,
        main: str = "",
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] | None = None,
        task_cls: type[Task[..., Any]] | None = None,
        set_as_current: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        ids: IdFactory = new_id,
        plugins: PluginManager | None = None,
        **settings: Any,
    ) -> None:
        named = {"broker_url": broker, "result_backend": backend, "include": include}
        given = {**settings, **{key: value for key, value in named.items() if value is not None}}
        self.main, self.clock, self.new_id = main, clock, ids
        if task_cls is not None:
            self.task_cls = task_cls
        self.plugins = installed_plugins() if plugins is None else plugins
        self.registry = TaskRegistry()
        self.signals = Signals()
        #: Whether all tasks are bound to the settings.
        self.finalized = False
        #: Finalized to the end: other threads wait for that.
        self._bound = False
        self.shared_tasks: dict[Any, Task[..., Any]] = {}
        self._publish_listeners = PublishListeners()
        self._lock = threading.RLock()
        # Locks of their own, so that none is held while another is waited for the other way
        # round: a module that is being imported elsewhere may finalize the app, and the settings
        # need the events while they are read.
        self._import_lock = threading.RLock()
        self._events_lock = threading.Lock()
        self._events: Events | None = None
        self._serializers = Serializers(self.plugins)
        self._to_discover: list[tuple[Packages, str | None]] = []
        self._imported = self._importing = False
        self.conf = Settings(
            main,
            given=given,
            plugin_settings=self.plugins.settings,
            before_read=self._before_configure,
            after_read=self._after_configure,
            on_update=self._settings_changed,
        )
        self._handles = Handles(self.conf, self.plugins, clock, self)
        add_app(self)
        if set_as_current:
            self.set_current()

    # -- tasks ----------------------------------------------------------------------------------

    @property
    def task(self) -> TaskMaker:
        """Decorator that makes a task of a function: ``@app.task`` or ``@app.task(queue="x")``.

        See `umbel.options.TaskOptions`; besides these, ``bind=True`` hands the task to the
        function as its first argument, and ``base=`` names a class of yours.
        """
        return cast("TaskMaker", self._task)

    def _task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        bind: bool = False,
        base: type[Task[..., Any]] | None = None,
        **options: Any,
    ) -> Any:
        if function is None:
            return lambda given: self.define_task(given, bind=bind, base=base, options=options)
        return self.define_task(function, bind=bind, base=base, options=options)

    def define_task(
        self,
        function: Callable[..., Any],
        *,
        bind: bool = False,
        base: type[Task[..., Any]] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Task[..., Any]:
        """Make `function` a task; what ``@app.task`` does.

        Raises:
            InvalidTaskError: an option is unknown, or `function` can't be a task.
            AlreadyRegisteredError: another task has the name.
        """
        options = dict(options or {})
        replace = options.pop("replace", False)
        name = options.pop("name", None)
        if name is None:
            name = self.gen_task_name(short_name(function), function.__module__)
        usual = AsyncTask if is_coroutine_function(function) else Task
        task = (base or self.task_cls or usual)()
        task.attach(self, name, function, bind=bind, options=options)
        return self._add(task, replace=replace)

    def register_task(self, task: T | type[T], *, replace: bool = False) -> T:
        """Make a class with a `run` method, or an instance of it, a task of this app.

        Raises: AlreadyRegisteredError: another task has the name.
        """
        instance = task() if isinstance(task, type) else task
        kind = type(instance)
        name = getattr(instance, "name", None)
        if name is None:
            name = self.gen_task_name(short_name(kind), kind.__module__)
        instance.attach(self, name)
        return self._add(instance, replace=replace)

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name of a task that is given none. Subclasses may override this.

        Args:
            name: The function's or class's qualified name.
            module: Its module; the one that is run as a program is called as the app is.
        """
        if module == "__main__":
            module = self.main or main_module() or module
        return f"{module}.{name}"

    def _add(self, task: T, *, replace: bool) -> T:
        self.registry.register(task, replace=replace)
        if getattr(task.function, "__module__", None) == "__main__":
            made = self.gen_task_name(short_name(task.function), "__main__")
            if task.name == made:  # the user gave it none
                warn_of_name(task)
        if self.finalized:
            task.resolve_options()
        return task

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name; finalizes the app."""
        if not self._bound:
            self.finalize()
        return self.registry

    @property
    def Task(self) -> type[Task[..., Any]]:  # noqa: N802 - Celery's name
        """The base class of this app's tasks."""
        return self.task_cls or Task

    def finalize(self) -> None:
        """Take shared tasks in, and bind all tasks to the settings. Repeatable.

        Happens by itself at the first look at `tasks`.

        Raises: ConfigError: a setting is wrong.
        """
        self.conf.finalize()
        with self._lock:
            if self.finalized:
                return
            self.finalized = True  # from here on new tasks are bound as they come
            try:
                take_shared_tasks(self)
                for task in list(self.registry.values()):
                    task.resolve_options()
                self._bound = True
            except BaseException:
                self.finalized = False
                raise
        if self.events.app_finalized:
            notify(self.events.app_finalized, self)

    # -- settings -------------------------------------------------------------------------------

    def config_from_object(
        self,
        source: Any,
        *,
        namespace: str | None = None,
        silent: bool = False,
        force: bool = False,
    ) -> None:
        """Take settings from a module, its dotted name, an object or a mapping.

        See `umbel.settings.Settings.config_from_object`.
        """
        self.conf.config_from_object(source, namespace=namespace, silent=silent, force=force)

    def config_from_envvar(
        self, variable: str, *, silent: bool = False, force: bool = False
    ) -> None:
        """Take settings from the module that an environment variable names."""
        self.conf.config_from_envvar(variable, silent=silent, force=force)

    # -- importing tasks ------------------------------------------------------------------------

    def autodiscover_tasks(
        self,
        packages: Packages | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import the module `related_name` of each package that has one, when tasks are imported.

        Args:
            packages: Dotted names, or a function that returns them; None: the app's own name.
            related_name: None imports the packages themselves.
            force: Import now.
        Raises: ConfigError: a package isn't there; at once or later, as `force` says.
        """
        found: Packages = [self.main] if packages is None else packages
        if force:
            import_modules(related_modules(found, related_name))
        else:
            self._to_discover.append((found, related_name))

    def import_tasks(self) -> None:
        """Import `include`, `imports`, autodiscovered modules and entry points, then finalize.

        Repeatable; what was added to autodiscovery since is imported then.

        Raises: AppLoadError, ConfigError: a module isn't there. Errors of a module's own pass.
        """
        with self._import_lock:
            if self._importing:  # a module that is being imported asks for it
                return
            self._importing = True
            try:
                self._import_all()
            finally:
                self._importing = False
        self.finalize()

    def _import_all(self) -> None:
        if not self._imported:
            if self.events.import_modules:
                notify(self.events.import_modules, self)
            import_modules(dict.fromkeys((*self.conf.imports, *self.conf.include)))
            import_entry_points()
            self._imported = True
        while self._to_discover:
            packages, related_name = self._to_discover[0]
            import_modules(related_modules(packages, related_name))
            self._to_discover.pop(0)

    # -- what plugins offer, and who listens ------------------------------------------------------

    @property
    def events(self) -> Events:
        """Who listens to what: plugins, and receivers of signals."""
        if self._events is None:
            with self._events_lock:
                if self._events is None:
                    events = Events()
                    for event in EVENTS:
                        events.add(event, *self.plugins.listeners(event))
                    self._bridge = SignalBridge(self.signals, events, self._publish_listeners)
                    self._events = events
        return self._events

    def serializer(self, name_or_content_type: str) -> Serializer:
        """Return the serializer of that name or content type.

        It is this app's own: what is registered with it no other app sees.

        Raises: UnknownPluginError: nobody offers it.
        """
        return self._serializers.get(name_or_content_type)

    def pool(self, name: str) -> PoolSpec:
        """Return what is offered as the pool `name`. Raises: UnknownPluginError."""
        return cast("PoolSpec", self.plugins.offer(Kind.POOL, name))

    @property
    def on_configure(self) -> Signal:
        """Sent before the settings are read."""
        return self.signals.on_configure

    @property
    def on_after_configure(self) -> Signal:
        """Sent when the settings are read, with them as `source`."""
        return self.signals.on_after_configure

    @property
    def on_after_finalize(self) -> Signal:
        """Sent when all tasks are bound."""
        return self.signals.on_after_finalize

    @property
    def on_after_fork(self) -> Signal:
        """Sent in a process that was forked from one with this app."""
        return self.signals.on_after_fork

    # -- running --------------------------------------------------------------------------------

    def worker(self, **options: Any) -> EmbeddedWorker:
        """Return a worker that runs in threads of this process, as a context manager.

        See `umbel.worker.embedded.EmbeddedWorker` for the options.
        """
        from umbel.worker.embedded import EmbeddedWorker  # noqa: PLC0415 - no client pays for it

        return EmbeddedWorker(self, **options)

    def set_current(self) -> None:
        """Make this app the one that shared tasks resolve to."""
        set_current(self)

    def check(self) -> None:
        """Raise an UmbelError where settings, broker or backend can't be used as they are."""
        self.finalize()
        self.broker.check()
        if self.backend is not None:
            self.backend.check()

    def close(self) -> None:
        """Close this process's connections; what is used later is opened anew. Repeatable."""
        if self._results is not None:
            self._results.close()
        self._handles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Umbel {self.main or '(no name)'}>"

    # -- told by the settings -------------------------------------------------------------------

    def _before_configure(self) -> None:
        """Tell that the settings are about to be read."""
        _ = self.events
        self._bridge.send("on_configure", self)

    def _after_configure(self) -> None:
        """Tell that the settings are read."""
        self._serializers.bound(self.conf.task_message_max_depth)
        if self.events.app_configured:
            notify(self.events.app_configured, self)

    def _forked(self) -> None:
        """Tell, in a forked process, that it is one."""
        told = (self.signals.on_after_fork, EVERY_APP.on_after_fork)
        if self._events is None and not any(signal.has_listeners() for signal in told):
            return  # an app that isn't used loads no plugin for this
        if self.events.app_forked:
            notify(self.events.app_forked, self)

    def _settings_changed(self) -> None:
        """Forget what was made from settings that have changed since."""
        self._publisher = self._workflow_store = None
        self._serializers.bound(self.conf.task_message_max_depth)
        if self.finalized:
            for task in self.registry.values():
                task.resolve_options()


def _tell_of_fork() -> None:
    for app in live_apps():
        app._forked()  # noqa: SLF001 - the app's own, of the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_of_fork)
