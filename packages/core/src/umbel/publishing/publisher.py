"""Sends calls: routes them, makes messages of them, and hands these to the broker until it has
them or the time for that is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from umbel.errors import BrokerUnavailableError, EncodeError
from umbel.events import Listeners, notify, transform_message
from umbel.messages import Message
from umbel.options import SENT
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

logger = logging.getLogger("umbel")

#: Options for the router.
_DESTINATION = frozenset({"queue", "exchange", "routing_key", "route_name"})
#: Options that say how to send, rather than what.
_HOW = frozenset({"producer", "connection", "retry", "retry_policy"})


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
        self._thread = threading.local()

    def publish(self, call: Call) -> Message:
        """Send one call; return its message once the broker has it.

        Raises:
            InvalidTaskError: an option has a wrong value.
            EncodeError: an argument can't be encoded.
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
            for pairs in _sent_together(list(zip(taken, parcels, strict=True))):
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
            new_id=self._new_id,
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
        message = encode_draft(draft, serializer, compression)
        if len(message.body) > self._max_bytes:
            raise EncodeError(
                f"the arguments of task {call.name!r} take {len(message.body)} bytes, which is "
                f"over task_message_max_bytes ({self._max_bytes}); pass a reference to the data"
            )
        if self._events.message_publishing:
            message = transform_message(self._events.message_publishing, call.name, message)
        return _Parcel(message, draft)

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
        )
        self._prepared[call.name] = (task, prepared)
        return prepared

    def _send(self, parcels: Sequence[_Parcel], options: Mapping[str, Any]) -> None:
        broker = options.get("producer") or options.get("connection") or self._broker()
        messages = [parcel.message for parcel in parcels]
        started_at = self._clock.monotonic()
        try:
            broker.send(messages)
        except BrokerUnavailableError as exc:
            self._send_again(broker, messages, self.policy(options), exc, started_at)
        if self._events.message_published:
            for message in messages:
                notify(self._events.message_published, message.task, message)
        if self._listeners.after:
            for parcel in parcels:
                notify(self._listeners.after, parcel.draft)

    def _send_again(
        self,
        broker: Broker,
        messages: Sequence[Message],
        policy: RetryPolicy | None,
        error: BrokerUnavailableError,
        started_at: float,
    ) -> None:
        """Go on trying to send, as `policy` says; raise the last error with what wasn't sent."""
        attempts = 1
        pauses = policy.sleeps(self._clock, started_at=started_at) if policy is not None else ()
        for pause in pauses:
            if policy is not None and not policy.applies_to(error, (BrokerUnavailableError,)):
                break
            self._sleep(pause)
            attempts += 1
            try:
                broker.send(messages)
                return
            except BrokerUnavailableError as exc:
                error = exc
        took = self._clock.monotonic() - started_at
        text = (
            f"{_what(messages)} not sent after {attempts} attempt{'' if attempts == 1 else 's'} "
            f"in {took:.1f} s: {error}"
        )
        logger.error("%s", text)
        raise BrokerUnavailableError(text) from error

    def _note_child(self, message: Message, options: Mapping[str, Any], request: Request) -> None:
        """Add what was sent to the children of the task that sent it."""
        children = current_children()
        if children is None or not options.get("add_to_parent", True):
            return
        parent = self._tasks.resolve(request.task or "")
        if parent is None or parent.trail:
            children.append([[message.id, None], None])

    def _reply_to(self) -> str:
        """Return this thread's id for answers, as Celery's clients always give one."""
        try:
            own: str = self._thread.oid
        except AttributeError:
            own = self._thread.oid = self._new_id()
        return own


def _sent_together(pairs: list[_Pair]) -> Iterator[list[_Pair]]:
    """Yield runs of calls that are sent alike."""
    if not any(_HOW & call.options.keys() for call, _ in pairs):
        yield pairs
        return
    for _, run in groupby(pairs, lambda pair: [pair[0].options.get(key) for key in sorted(_HOW)]):
        yield list(run)


def _what(messages: Sequence[Message]) -> str:
    first = messages[0]
    if len(messages) == 1:
        return f"task {first.task!r} [{first.id}] was"
    return f"{len(messages)} tasks, the first {first.task!r} [{first.id}], were"


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most apps stay with UTC

    return ZoneInfo(name)
