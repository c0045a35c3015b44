"""Sends calls: routes them, makes messages of them, and has these handed to the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from umbel.events import Listeners, notify, transform_message
from umbel.messages import Message
from umbel.options import SENT
from umbel.publishing.dispatch import Dispatcher
from umbel.publishing.drafts import (
    NO_DEFAULTS,
    Draft,
    SendDefaults,
    default_origin,
    draft_message,
    encode_draft,
)
from umbel.requests import NO_REQUEST, Request, current_children, current_request
from umbel.retries import RetryPolicy
from umbel.routing import Router

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.events import Events
    from umbel.ids import IdFactory
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.serializer import Serializer
    from umbel.registry import TaskRegistry
    from umbel.sender import Call
    from umbel.settings import Settings
    from umbel.tasks.task import Task

#: Options for the router.
_WHERE_TO = frozenset({"queue", "exchange", "routing_key"})
_DESTINATION = _WHERE_TO | {"route_name"}
#: Options that say how to send, rather than what.
_HOW = frozenset({"producer", "connection", "retry", "retry_policy", "on_conflict"})
#: Options of which it matters that they are there.
_WHETHER = frozenset({"task_id", "retries"})
_SENT_APART = _HOW | _WHETHER
#: Tasks that call another one for many items.
_OF_ITEMS = frozenset({"celery.map", "celery.starmap", "celery.chunks"})
#: What goes for these as for the task that they call.
_LIKE_THE_CALLED = ("queue", "exchange", "routing_key", "priority", "delivery_mode")


class PublishListeners:
    """Who hears of a message with its body not encoded yet: Celery's publish signals."""

    #: Called with the draft, which they may change, and the retry policy.
    before: Listeners = ()
    #: Called with the draft after the broker has taken the message.
    after: Listeners = ()


class _Prepared(NamedTuple):
    """What all sends of one task have in common."""

    defaults: SendDefaults
    serializer: Serializer
    compression: str | None
    #: The task itself says so; a parent's priority doesn't replace it.
    has_priority: bool
    #: Options that the task declares, as the router is to see them.
    declared: dict[str, Any]
    #: It calls another task, for many items.
    calls_another: bool = False


class _Parcel(NamedTuple):
    """A message on its way, and what it was made of."""

    message: Message
    draft: Draft


_Pair = tuple["Call", _Parcel]


class Publisher:
    """Publishes for one app.

    Args:
        conf: The app's settings.
        events: Who hears of messages.
        listeners: Who hears of drafts.
        tasks: The app's tasks; calls by name take the options of a task known here.
        serializer: Returns a serializer by name.
        broker: Returns this process's broker handle.
        clock: Where to read the time.
        new_id: Where to get ids.
        sleep: Pauses between attempts.
    """

    def __init__(
        self,
        *,
        conf: Settings,
        events: Events,
        listeners: PublishListeners,
        tasks: TaskRegistry,
        serializer: Callable[[str], Serializer],
        broker: Callable[[], Broker],
        clock: Clock,
        new_id: IdFactory,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._conf, self._events, self._listeners = conf, events, listeners
        self._tasks, self._serializer, self._broker = tasks, serializer, broker
        self._clock, self._new_id, self._sleep = clock, new_id, sleep
        self._prepared: dict[str, tuple[Any, _Prepared]] = {}
        self._router = Router(conf)
        self._has_routes = bool(conf.task_routes)
        self._zone = _zone(conf.timezone)
        self._inherit: bool = conf.task_inherit_parent_priority
        self._max_bytes: int = conf.task_message_max_bytes
        self._policy = RetryPolicy.from_mapping(
            {"deadline_s": conf.task_publish_deadline_s, **conf.task_publish_retry_policy}
        )
        self._retry: bool = conf.task_publish_retry
        self._dispatcher = Dispatcher(
            queues=self._router.queues,
            deadline_s=self._policy.deadline_s,
            clock=clock,
            sleep=self._pause,
        )
        self._thread = threading.local()

    def publish(self, call: Call) -> Message:
        """Send one call; return its message once the broker has it.

        Raises:
            InvalidTaskError: an option has a wrong value.
            EncodeError: an argument can't be encoded.
            AlreadySentError: a task of that `task_id` is known, and `on_conflict` isn't "return".
            QueueFullError: its queue has a bound, and no room for it.
            BrokerUnavailableError: the broker didn't take it in time. Where its answer was lost
                on the way, it may have it all the same; another try by umbel sends the same id.
        """
        request = current_request()
        parcel = self._parcel(call, None if request is NO_REQUEST else request)
        self._send((parcel,), call.options)
        self._note_child(parcel.message, call.options, request)
        return parcel.message

    def publish_many(
        self, calls: Iterable[Call], *, batch: int
    ) -> Iterator[tuple[Message, Task[..., Any] | None]]:
        """Send `calls`, taken `batch` at a time; yield messages and tasks after each go.

        Calls that are to be sent differently (``producer``, ``retry``) don't go together.

        Raises: as `publish`. What wasn't yielded wasn't sent then.
        """
        request = current_request()
        parent = None if request is NO_REQUEST else request
        rest = iter(calls)
        while taken := list(islice(rest, batch)):
            parcels = [self._parcel(call, parent) for call in taken]
            for pairs in self._sent_together(list(zip(taken, parcels, strict=True))):
                self._send([parcel for _, parcel in pairs], pairs[0][0].options)
                for call, parcel in pairs:
                    self._note_child(parcel.message, call.options, request)
                    yield parcel.message, call.task

    def compose(self, call: Call, parent: Request | None) -> Message:
        """Return the message of `call`, following from `parent`; nothing is sent."""
        return self._parcel(call, parent).message

    def policy(self, options: Mapping[str, Any]) -> RetryPolicy | None:
        """Return how often to try to send; None: once."""
        wanted = options.get("retry")
        if not (self._retry if wanted is None else wanted):
            return None
        own = options.get("retry_policy")
        return RetryPolicy.from_mapping(own, self._policy) if own else self._policy

    def _parcel(self, call: Call, parent: Request | None) -> _Parcel:
        prepared = self._prepare(call)
        if prepared.calls_another:
            call = self._like_the_called(call)
        options = call.options
        if self._has_routes or (options and not _DESTINATION.isdisjoint(options)):
            options = self._routed(call, prepared)
        draft = draft_message(
            call.name,
            call.args,
            call.kwargs,
            options,
            defaults=prepared.defaults,
            parent=parent,
            clock=self._clock,
            new_id=self._new_id if call.new_id is None else lambda: call.new_id,
            origin=(parent.hostname if parent is not None else None) or default_origin(),
            reply_to=self._reply_to(),
            inherit_priority=self._inherit and not prepared.has_priority,
            zone=self._zone,
        )
        if self._listeners.before:
            notify(self._listeners.before, draft, self.policy(options))
        serializer, compression = prepared.serializer, prepared.compression
        if options:
            if options.get("serializer") is not None:
                serializer = self._serializer(options["serializer"])
            if options.get("compression") is not None:
                compression = options["compression"]
        message = encode_draft(draft, serializer, compression, max_bytes=self._max_bytes)
        if self._events.message_publishing:
            message = transform_message(self._events.message_publishing, call.name, message)
        return _Parcel(message, draft)

    def _like_the_called(self, call: Call) -> Call:
        """Return a call that is routed as the task is that it calls, unless it says where to."""
        called: Any = call.kwargs.get("task")
        name = called.get("task") if hasattr(called, "get") else None
        if not isinstance(name, str) or not _WHERE_TO.isdisjoint(call.options):
            return call
        task = self._tasks.resolve(name)
        own = NO_DEFAULTS if task is None else task.send_defaults
        declared = {
            key: found for key in _LIKE_THE_CALLED if (found := getattr(own, key)) is not None
        }
        return call._replace(options={"route_name": name, **declared, **call.options})

    def _routed(self, call: Call, prepared: _Prepared) -> Mapping[str, Any]:
        name = call.options.get("route_name") or call.name
        options = {**prepared.declared, **call.options}
        return self._router.route(name, call.args, call.kwargs, options, task=call.task)

    def _prepare(self, call: Call) -> _Prepared:
        """Return what all sends of the task have in common; worked out once a task."""
        task = call.task if call.task is not None else self._tasks.resolve(call.name)
        known = self._prepared.get(call.name)
        if known is not None and known[0] is task:
            return known[1]
        own: SendDefaults = NO_DEFAULTS if task is None else task.send_defaults
        conf = self._conf
        compression = conf.task_compression if own.compression is None else own.compression
        declared = {key: value for key in SENT if (value := getattr(own, key)) is not None}
        to = self._router.route(call.name, options=declared) if not self._has_routes else {}
        filled = msgspec.structs.replace(
            own,
            queue=to.get("queue"),
            exchange=to.get("exchange"),
            routing_key=to.get("routing_key"),
            priority=conf.task_default_priority if own.priority is None else own.priority,
            delivery_mode=own.delivery_mode or conf.task_default_delivery_mode,
            ignore_result=conf.task_ignore_result if task is None else own.ignore_result,
        )
        prepared = _Prepared(
            filled,
            self._serializer(own.serializer or conf.task_serializer),
            compression,
            own.priority is not None,
            declared,
            call.name in _OF_ITEMS,
        )
        self._prepared[call.name] = (task, prepared)
        return prepared

    def _send(self, parcels: Sequence[_Parcel], options: Mapping[str, Any]) -> None:
        broker = options.get("producer") or options.get("connection") or self._broker()
        messages = [parcel.message for parcel in parcels]
        known = self._dispatcher.dispatch(broker, messages, options, self.policy(options))
        if known:
            parcels = [parcel for parcel in parcels if parcel.message.id not in known]
        if self._events.message_published:
            for parcel in parcels:
                notify(self._events.message_published, parcel.message.task, parcel.message)
        if self._listeners.after:
            for parcel in parcels:
                notify(self._listeners.after, parcel.draft)

    def _sent_together(self, pairs: list[_Pair]) -> Iterator[list[_Pair]]:
        """Yield runs of calls that go to the broker in one go."""
        for run in _alike(pairs):
            for share in self._dispatcher.shares([parcel.message.queue for _, parcel in run]):
                yield run[share]

    def _note_child(self, message: Message, options: Mapping[str, Any], request: Request) -> None:
        """Add what was sent to the children of the task that sent it."""
        children = current_children()
        if children is None or not options.get("add_to_parent", True):
            return
        parent = self._tasks.resolve(request.task or "")
        if parent is None or parent.trail:
            children.append([[message.id, None], None])

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _reply_to(self) -> str:
        """Return this thread's id for answers, as Celery's clients always give one."""
        try:
            own: str = self._thread.oid
        except AttributeError:
            own = self._thread.oid = self._new_id()
        return own


def _alike(pairs: list[_Pair]) -> Iterator[list[_Pair]]:
    """Yield runs of calls that are sent alike."""
    if all(_SENT_APART.isdisjoint(call.options) for call, _ in pairs):
        yield pairs
        return
    for _, run in groupby(pairs, lambda pair: _how(pair[0].options)):
        yield list(run)


def _how(options: Mapping[str, Any]) -> list[Any]:
    how = [options.get(key) for key in sorted(_HOW)]
    return how + [bool(options.get(key)) for key in sorted(_WHETHER)]


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most apps stay with UTC

    return ZoneInfo(name)
