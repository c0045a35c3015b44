"""Which queue a call goes to, and with which options.

What the call says wins over what the task declares, that over ``task_routes``, and that over the
defaults; None counts as "not said". Pure: a router reads its settings once and does no I/O, but
for importing routing functions that were given by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from umbel.errors import ConfigError, near_matches
from umbel.route_table import RouteTable, check_priority, queue_name

_DESTINATION = ("queue", "exchange", "routing_key")
#: A router remembers so many tasks; names that nobody bounds mustn't fill the memory.
_MOST_REMEMBERED = 10_000
#: Weights of queues; what is beyond would make the others' turns come never.
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1000.0


class _Named(msgspec.Struct, frozen=True):
    name: str


class Queue(_Named, frozen=True, kw_only=True):
    """A queue as ``task_queues`` declares it: ``Queue("mail", max_length=1000)``.

    Args:
        name: The queue's name.
    """

    #: None: as ``task_default_exchange`` says, else the queue's name.
    exchange: str | None = None
    exchange_type: str = "direct"
    #: None: as ``task_default_routing_key`` says, else the queue's name.
    routing_key: str | None = None
    #: How many messages may wait in it, the delayed included; None: any number. What workers
    #: hold doesn't count. Retries and what follows on a task are taken beyond it.
    max_length: int | None = None
    #: What a sender meets when it is full: "raise" is QueueFullError, with "block" it waits for
    #: room until ``task_publish_deadline_s`` is over.
    overflow: str = "raise"
    #: Above 0: how often a worker looks into it first, measured against the other queues, under
    #: ``worker_queue_order="weighted"``. None: 1.
    weight: float | None = None
    #: Whatever else was given: ``queue_arguments``, ``durable`` …, for brokers that know it.
    options: dict[str, Any] = {}


class Destination(NamedTuple):
    """Where a message goes. `exchange` ``""`` goes to the queue named by `routing_key`."""

    queue: str
    exchange: str
    routing_key: str


class Choice(NamedTuple):
    """An option's value, and where it comes from."""

    value: Any
    source: str
    #: What it won over, the next best first.
    over: tuple[Choice, ...] = ()


class Router:
    """Routes calls by the settings ``task_routes``, ``task_queues`` and their like.

    Args:
        conf: The app's settings, or a mapping with some of them.
    Raises: ConfigError: a setting is malformed, or names a queue that may not be used.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        #: The declared queues by name.
        self.queues = declared_queues(
            conf.get("task_queues"),
            default_exchange=conf.get("task_default_exchange"),
            default_routing_key=conf.get("task_default_routing_key"),
        )
        self._default_queue: str = conf.get("task_default_queue") or "celery"
        self._default_priority: int | None = conf.get("task_default_priority")
        create_missing = conf.get("task_create_missing_queues")
        self._create_missing = create_missing is None or bool(create_missing)
        self._table = RouteTable(conf.get("task_routes"))
        self._known: dict[str, dict[str, Any]] = {}
        if not self._create_missing:
            if self.queues:
                self._check_queue(self._default_queue, "task_default_queue")
            for route in self._table.static_routes():
                if "queue" in route.options:
                    self._check_queue(route.options["queue"], route.source)

    def load(self) -> None:
        """Import the routing functions given by name, so that a wrong one shows at the start.

        Raises: ConfigError: one can't be imported.
        """
        self._table.load()

    def route(
        self,
        task_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        task: Any = None,
    ) -> dict[str, Any]:
        """Return `options` with what routes add: at least queue, exchange and routing_key.

        Args:
            options: What the task declares and, over it, what the call says.
            task: The task object, for routing functions.
        Raises: ConfigError: the queue may not be used, or the priority is out of range.
        """
        known = self._known.get(task_name)
        if known is not None:
            if not options:
                return known.copy()
            if known.keys().isdisjoint(options) and "priority" not in options:
                return {**known, **options}
        return self._route(task_name, args, kwargs, options or {}, task)

    def explain(
        self,
        task_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        task_options: Mapping[str, Any] | None = None,
        task: Any = None,
    ) -> dict[str, Choice]:
        """Return each option that a call would be sent with, and why.

        Args:
            options: What the call says.
            task_options: What the task declares.
        Raises: as `route`.
        """
        chosen: dict[str, Choice] = {}
        if self._default_priority is not None:
            chosen["priority"] = Choice(self._default_priority, "task_default_priority")
        given = {**_said(task_options), **_said(options)}
        found, _ = self._table.find(task_name, args, kwargs, given, task)
        layers = [(found.options, found.source)] if found is not None else []
        layers += [(_said(task_options), "the task"), (_said(options), "the call")]
        for layer, source in layers:
            for name, value in layer.items():
                beaten = chosen.get(name)
                over = () if beaten is None else (beaten._replace(over=()), *beaten.over)
                chosen[name] = Choice(value, source, over)
        merged = {name: choice.value for name, choice in chosen.items()}
        self._check(merged, task_name)
        destination = self._destination(merged)
        for name, value in zip(_DESTINATION, destination, strict=True):
            said = chosen.get(name)
            if said is None or said.value != value:
                over = () if said is None else (said,)
                chosen[name] = Choice(value, self._why(name, destination, merged), over)
        return chosen

    def select(self, names: Iterable[str] = (), exclude: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the queues to consume: `names`, or all declared, or the default one.

        Raises: ConfigError: one may not be used.
        """
        wanted = tuple(dict.fromkeys(names)) or tuple(self.queues) or (self._default_queue,)
        left_out = frozenset(exclude)
        for name in (*wanted, *left_out):
            self._check_queue(name, "the worker")
        return tuple(name for name in wanted if name not in left_out)

    def _route(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        task: Any,
    ) -> dict[str, Any]:
        found, is_static = self._table.find(name, args, kwargs, options, task)
        base = {} if found is None else found.options
        if is_static and name not in self._known and len(self._known) < _MOST_REMEMBERED:
            self._known[name] = self._resolved(dict(base), name)
        return self._resolved({**options, **base, **_said(options)}, name)

    def _resolved(self, options: dict[str, Any], task_name: str) -> dict[str, Any]:
        self._check(options, task_name)
        options["queue"], options["exchange"], options["routing_key"] = self._destination(options)
        return options

    def _check(self, options: Mapping[str, Any], task_name: str) -> None:
        if options.get("priority") is not None:
            check_priority(options["priority"], f"task {task_name!r}")

    def _destination(self, options: Mapping[str, Any]) -> Destination:
        """Return where `options` lead, by Celery's rules."""
        given, exchange, key = (options.get(name) for name in _DESTINATION)
        if given is None:
            name = self._bound_to(exchange, key) or self._default_queue
        else:
            name = queue_name(given, "the option queue")
        self._check_queue(name, "the route" if given is not None else "task_default_queue")
        queue = self.queues.get(name)
        if queue is not None and queue.exchange_type != "direct":
            to, by = exchange or queue.exchange, key or queue.routing_key
            return Destination(name, to or "", by or name)
        if exchange and key:
            return Destination(name, exchange, key)
        return Destination(name, "", name)  # one of the two alone doesn't count

    def _bound_to(self, exchange: str | None, key: str | None) -> str | None:
        """Return the declared queue that gets what is sent to `exchange` with `key`."""
        if not exchange or not key:
            return None
        for queue in self.queues.values():
            if queue.exchange == exchange and queue.routing_key == key:
                return queue.name
        return None

    def _check_queue(self, name: str, source: str) -> None:
        if self._create_missing or name in self.queues:
            return
        if not self.queues and name == self._default_queue:
            return
        known = tuple(self.queues) or (self._default_queue,)
        close = near_matches(name, known, limit=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"queue {name!r}, which {source} names, isn't in task_queues, and "
            f"task_create_missing_queues is off{hint} (declared: {', '.join(known)})"
        )

    def _why(self, name: str, to: Destination, given: Mapping[str, Any]) -> str:
        """Return where a part of the destination comes from that nobody said in so many words."""
        if name == "queue":
            if to.queue == self._default_queue and self._bound_to(*to[1:]) != to.queue:
                return "task_default_queue"
            return f"task_queues binds it to exchange {to.exchange!r} and key {to.routing_key!r}"
        queue = self.queues.get(to.queue)
        if queue is not None and queue.exchange_type != "direct":
            return f"task_queues[{to.queue!r}]"
        return f"queue {to.queue!r} is addressed directly"


def declared_queues(
    task_queues: Any,
    *,
    default_exchange: str | None = None,
    default_routing_key: str | None = None,
) -> Mapping[str, Queue]:
    """Return the queues that ``task_queues`` declares, by name, in its order.

    Args:
        task_queues: A list of names, mappings with a ``name``, or objects with one such as
            kombu's queues; or a mapping of names to options. None: no queues.
    Raises: ConfigError: malformed, or one name twice.
    """
    found: dict[str, Queue] = {}
    if isinstance(task_queues, Mapping):
        items = [{"name": name, **_options(name, given)} for name, given in task_queues.items()]
    elif isinstance(task_queues, str):
        raise ConfigError(f"task_queues must be a list of queues, not the text {task_queues!r}")
    else:
        items = [_from_item(item) for item in task_queues or ()]
    for fields in items:
        name = queue_name(fields.pop("name", None), "task_queues")
        if name in found:
            raise ConfigError(f"task_queues declares queue {name!r} twice")
        exchange, kind = _exchange(fields.pop("exchange", None))
        found[name] = Queue(
            name=name,
            exchange=exchange or default_exchange or name,
            exchange_type=fields.pop("exchange_type", None) or kind,
            routing_key=fields.pop("routing_key", None) or default_routing_key or name,
            max_length=_max_length(name, fields.get("max_length")),
            overflow=_overflow(name, fields.pop("max_length", None), fields.pop("overflow", None)),
            weight=_weight(name, fields.pop("weight", None)),
            options=fields,
        )
    return MappingProxyType(found)


def queue_bounds(task_queues: Any) -> dict[str, int]:
    """Return how many messages may wait in the queues that have a bound. Raises: ConfigError."""
    if not task_queues:
        return {}
    queues = declared_queues(task_queues).values()
    return {queue.name: queue.max_length for queue in queues if queue.max_length is not None}


def queue_weights(task_queues: Any) -> dict[str, float]:
    """Return the weights of the queues that are given one. Raises: ConfigError."""
    if not task_queues:
        return {}
    queues = declared_queues(task_queues).values()
    return {queue.name: queue.weight for queue in queues if queue.weight is not None}


def _max_length(queue: str, given: Any) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ConfigError(
        f"max_length of queue {queue!r} in task_queues must be a number of messages, 1 or more, "
        f"not {given!r:.80}"
    )


def _weight(queue: str, given: Any) -> float | None:
    if given is None:
        return None
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if is_number and _LEAST_WEIGHT <= given <= _MOST_WEIGHT:
        return float(given)
    raise ConfigError(
        f"weight of queue {queue!r} in task_queues must be a number from {_LEAST_WEIGHT} to "
        f"{_MOST_WEIGHT}, not {given!r:.80}"
    )


def _overflow(queue: str, max_length: Any, given: Any) -> str:
    if given is None or given == "raise":
        return "raise"
    if given != "block":
        raise ConfigError(
            f"overflow of queue {queue!r} in task_queues must be 'raise' or 'block', "
            f"not {given!r:.80}"
        )
    if max_length is None:
        raise ConfigError(
            f"queue {queue!r} in task_queues has an overflow, but no max_length that it could go "
            f"beyond; give it one"
        )
    return "block"


def _options(name: Any, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Queue):
        return _of_queue(given)
    if not isinstance(given, Mapping):
        raise ConfigError(f"task_queues[{name!r}] must be a mapping of options, not {given!r:.80}")
    return dict(given)


def _from_item(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        return {"name": item}
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, Queue):
        return _of_queue(item)
    fields = {"name": queue_name(item, "task_queues")}
    for key in (
        "exchange",
        "routing_key",
        "max_length",
        "overflow",
        "weight",
        "queue_arguments",
        "durable",
        "auto_delete",
    ):
        if getattr(item, key, None) is not None:
            fields[key] = getattr(item, key)
    return fields


def _of_queue(queue: Queue) -> dict[str, Any]:
    fields = msgspec.structs.asdict(queue)
    return {**fields.pop("options"), **_said(fields)}


def _exchange(given: Any) -> tuple[str | None, str]:
    """Return name and type of an exchange, given as a name or as an object such as kombu's."""
    if given is None or isinstance(given, str):
        return given, "direct"
    name, kind = getattr(given, "name", None), getattr(given, "type", None)
    return (name if isinstance(name, str) else None), kind or "direct"


def _said(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (options or {}).items() if value is not None}
