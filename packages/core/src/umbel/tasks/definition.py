"""What a task is before anybody calls it: its name, function and options.

Options are resolved against the app's settings when the app is finalized, or earlier where one is
read; from then on they are plain attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError, InvalidTaskError, MaxRetriesExceededError
from umbel.functions import is_coroutine_function
from umbel.options import DEAD_LETTER_POLICIES, HANDLERS, SENT, SOURCES, check_task_options
from umbel.publishing.drafts import SendDefaults
from umbel.rates import parse_rate
from umbel.sender import Sender
from umbel.tasks.annotations import annotations_for
from umbel.tasks.arguments import ArgumentCheck, Converters

_UNSET: Any = object()
#: Options that are counted with: a wrong one would be found out by the worker only.
_NUMBERS = {
    "time_limit": "seconds",
    "soft_time_limit": "seconds",
    "max_retries": "a number",
}


class TaskDefinition:
    """The part of a task that describes it; `umbel.tasks.Task` adds what can be done with it."""

    # -- options, see umbel.options -------------------------------------------------------------
    name: str
    aliases: Sequence[str] = ()
    typing: bool
    serializer: str
    compression: str | None
    queue: str | None
    exchange: str | None
    routing_key: str | None
    priority: int | None
    delivery_mode: int | None
    expires: float | datetime | timedelta | None
    shadow: str | None
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | float | None
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    dead_letter: str
    ignore_result: bool
    store_errors_even_if_ignored: bool
    store_eager_result: bool
    track_started: bool
    result_expires: float | None
    trail: bool
    send_events: bool
    throws: tuple[type[BaseException], ...]
    max_retries: int | None
    default_retry_delay: float
    autoretry_for: Any
    dont_autoretry_for: Any
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    retry_kwargs: Mapping[str, Any]
    resultrepr_maxsize: int

    # -- set when the task is attached to an app --------------------------------------------------
    #: Whether the function takes the task as its first argument.
    bind: bool = False
    #: Whether `run` is an ``async def``.
    is_coroutine: bool = False
    #: The function as it was written.
    function: Callable[..., Any]
    _sender: Sender | None = None
    _declared: Mapping[str, Any]
    _converters: Converters | None

    # -- made when first read ---------------------------------------------------------------------
    #: What the task's definition adds to each send.
    send_defaults: SendDefaults
    #: Checks a call's arguments against the function.
    argument_check: ArgumentCheck
    #: Gives arguments the types that they are annotated with; None where there are none such.
    convert_arguments: (
        Callable[[Sequence[Any], Mapping[str, Any]], tuple[Sequence[Any], dict[str, Any]]] | None
    )
    #: Makes the return value serializable; None where its annotation needs nothing.
    convert_result: Callable[[Any], Any] | None

    #: Makes a return value, read from its result, what it is annotated as; None: it is that.
    load_result: Callable[[Any], Any] | None

    #: Raised by `retry` after the last one.
    MaxRetriesExceededError = MaxRetriesExceededError

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work. A class task overrides this."""
        raise NotImplementedError(f"task class {type(self).__qualname__} has no run() method")

    # -- life-cycle handlers: override what you need --------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Be told, in the worker, that the task is about to run."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Be told that the task returned `retval`."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Be told that the task will run again, because of `exc`."""

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Be told that the task failed with `exc`."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Be told that the run is over; `retval` is the value or the exception."""

    def attach(
        self,
        sender: Sender,
        name: str,
        function: Callable[..., Any] | None = None,
        *,
        bind: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the task one of an app's. Called by the app, once.

        Args:
            sender: The app.
            name: The task's name.
            function: What to run; None: the class's own `run`.
            bind: Hand the task to `function` as its first argument.
            options: As given to the decorator.
        Raises: InvalidTaskError: an option is unknown or makes no sense.
        """
        given = dict(options or {})
        check_task_options(repr(name), given, frozenset(_attributes(type(self))))
        _check_rate(name, given.get("rate_limit", getattr(type(self), "rate_limit", None)))
        _check_numbers(name, given)
        self._sender, self.name, self.bind = sender, name, bind
        self._override_handlers({key: given.pop(key) for key in HANDLERS if key in given})
        given.pop("replace", None)
        if "aliases" in given:
            self.aliases = tuple(given.pop("aliases"))
        self._declared = given
        for key, value in given.items():
            # Options without a value yet are resolved at the first look, by __getattr__.
            if key not in SOURCES or hasattr(type(self), key):
                setattr(self, key, value)
        if function is not None:
            self.function = function
            self.run = function.__get__(self) if bind else function  # type: ignore[method-assign]
        else:
            self.function = type(self).run
        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
            if function is not None or attribute != "__module__":
                found = getattr(function or type(self), attribute, None)
                setattr(self, attribute, found)
        self.__wrapped__ = self.run
        self.is_coroutine = is_coroutine_function(self.run)

    def resolve_options(self) -> None:
        """Read all options, with the app's settings and annotations. Repeatable."""
        conf = self._app.conf
        declared = dict(self._declared)
        annotated = annotations_for(self, conf.task_annotations)
        self._override_handlers({key: annotated.pop(key) for key in HANDLERS if key in annotated})
        declared.update(annotated)
        sent: dict[str, Any] = {}
        for name, source in SOURCES.items():
            value = declared.get(name, _UNSET)
            if value is _UNSET:
                value = getattr(type(self), name, _UNSET)
            if value is None and source.none_is_unset:
                value = _UNSET
            if value is not _UNSET and name in SENT:
                sent[name] = value
            if value is _UNSET:
                value = getattr(conf, source.setting) if source.setting else source.default
            setattr(self, name, value)
        for name in annotated.keys() - SOURCES.keys():
            setattr(self, name, annotated[name])
        self._normalize()
        sent.update(serializer=self.serializer, ignore_result=self.ignore_result)
        self.send_defaults = SendDefaults(**sent)

    def _normalize(self) -> None:
        if self.dead_letter not in DEAD_LETTER_POLICIES:
            raise InvalidTaskError(
                f"task {self.name!r}: dead_letter must be {', '.join(DEAD_LETTER_POLICIES)} or "
                f"None, not {self.dead_letter!r:.80}"
            )
        throws: Any = self.throws or ()
        self.throws = (throws,) if isinstance(throws, type) else tuple(throws)
        _check_rate(self.name, self.rate_limit)  # an annotation may have set it
        _check_numbers(self.name, {option: getattr(self, option) for option in _NUMBERS})
        expires: Any = self.result_expires
        self.result_expires = expires.total_seconds() if isinstance(expires, timedelta) else expires

    def _override_handlers(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Put `handlers` in the place of the class's methods; they are called with the task."""
        if handlers:
            kind = type(self)
            namespace = {**handlers, "__module__": kind.__module__, "__doc__": kind.__doc__}
            self.__class__ = type(kind.__name__, (kind,), namespace)

    @property
    def _app(self) -> Sender:
        if self._sender is None:
            raise InvalidTaskError(
                f"task class {type(self).__qualname__} belongs to no app; "
                f"register it with app.register_task()"
            )
        return self._sender

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Reached only while the attribute isn't set: before the first use of the task.
            if name in SOURCES or name == "send_defaults":
                if self._sender is None:
                    return SOURCES[name].default if name in SOURCES else SendDefaults()
                self.resolve_options()
            elif name == "argument_check":
                self.argument_check = ArgumentCheck(self.name, self.run)
            elif name in ("_converters", "convert_arguments", "convert_result", "load_result"):
                converters = Converters.of(self.name, self.run)
                has_work = converters is not None and (converters.dumps or converters.injected)
                of_arguments = converters if has_work else None
                self._converters = of_arguments
                self.convert_arguments = None if of_arguments is None else of_arguments.load
                self.convert_result = None if converters is None else converters.dump_result
                self.load_result = None if converters is None else converters.load_result
            else:
                raise AttributeError(f"task {type(self).__qualname__!r} has no attribute {name!r}")
            return getattr(self, name)

    @property
    def defined_at(self) -> str:
        """Where the function stands, for people."""
        code = getattr(self.function, "__code__", None)
        at = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        return f"{self.function.__module__}.{self.function.__qualname__}{at}"

    def __reduce__(self) -> str:
        # Pickled by reference: a task is the same object all over a process.
        return str(vars(self).get("__qualname__") or type(self).__qualname__)

    def __repr__(self) -> str:
        where = f" of {self._sender.main}" if self._sender is not None else ""
        return f"<Task {vars(self).get('name', type(self).__qualname__)}{where}>"


def _check_rate(name: str, rate: str | float | None) -> None:
    try:
        parse_rate(rate)
    except ConfigError as exc:
        raise InvalidTaskError(f"task {name!r}: rate_limit {exc}") from None


def _check_numbers(name: str, options: Mapping[str, Any]) -> None:
    for option, what in _NUMBERS.items():
        value = options.get(option)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InvalidTaskError(
                f"task {name!r}: {option} must be {what} or None, not {value!r:.80}"
            )


def _attributes(kind: type) -> Iterator[str]:
    return (name for name in dir(kind) if not name.startswith("_"))
