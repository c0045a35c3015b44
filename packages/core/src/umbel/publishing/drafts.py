"""Calls made into messages: Celery's protocol 2, built purely from values.

`build_message` is the hot path of every client: it makes one dict, encodes one list, and looks at
the clock only where a time is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

import msgspec

from umbel.canvas.ends import ENDS, end_header
from umbel.canvas.options import COUNTED, RESULTS
from umbel.clock import Clock, to_iso
from umbel.compression import compress
from umbel.errors import EncodeError, InvalidTaskError
from umbel.ids import IdFactory, hostname
from umbel.interfaces.serializer import Serializer
from umbel.messages import DEFAULT_QUEUE, META, Message
from umbel.options import check_send_options
from umbel.publishing.option_checks import check_values, no_id
from umbel.publishing.option_values import (
    instant,
    json_form,
    json_forms,
    seconds,
)
from umbel.publishing.short_repr import arguments_repr, short_repr
from umbel.requests import Request

#: Header of our own: the call wants its result kept, whatever its task says. Celery's header
#: ``ignore_result`` can't say so: it is false also where nobody asked.
KEEP_RESULT = "umbel_keep_result"
#: Headers that are the protocol's; a sender's own may not have these names.
RESERVED_HEADERS = frozenset(
    {
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "compression",
        COUNTED,
        RESULTS,
        ENDS,
        KEEP_RESULT,
        META,
    }
)
NO_EMBED: Mapping[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class SendDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's definition adds to each of its sends; None: nothing."""

    serializer: str | None = None
    compression: str | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    delivery_mode: int | None = None
    expires: Any = None
    shadow: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False


NO_DEFAULTS = SendDefaults()


class Draft(msgspec.Struct):
    """A message before its body is encoded; listeners may change it."""

    name: str
    headers: dict[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    embed: Mapping[str, Any]
    queue: str = DEFAULT_QUEUE
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due_at: float | None = None
    expires_at: float | None = None
    reply_to: str | None = None
    delivery_mode: int = 2
    properties: dict[str, Any] = {}


def draft_message(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    defaults: SendDefaults = NO_DEFAULTS,
    parent: Request | None = None,
    clock: Clock,
    new_id: IdFactory,
    origin: str,
    reply_to: str | None = None,
    inherit_priority: bool = False,
    zone: tzinfo = UTC,
) -> Draft:
    """Return the draft of one call.

    Args:
        name: The task's name.
        args: Positional arguments, as they are to be encoded.
        kwargs: Keyword arguments, as they are to be encoded.
        options: As of `umbel.options.SendOptions`, routed already.
        defaults: Used where `options` says nothing.
        parent: The request of the task that sends; None outside of tasks.
        clock: Where to read the time.
        new_id: Where to get the id, where `options` has none.
        origin: Node name of the sender.
        reply_to: Queue for answers, where `options` has none.
        inherit_priority: Take the parent's priority where `options` has none.
        zone: Of times that are given without one.
    Raises: InvalidTaskError: an option has a wrong value.
    """
    task_id = options.get("task_id") or new_id()
    if not isinstance(task_id, str):
        raise no_id(name, task_id)
    root_id: str = task_id
    parent_id: str | None = None
    if parent is not None:
        # A task called as a function inside another one has no id; its parent does the sending.
        parent_id = parent.id or parent.parent_id
        root_id = parent.root_id or parent_id or task_id
    headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": defaults.shadow,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [defaults.time_limit, defaults.soft_time_limit],
        "root_id": root_id,
        "parent_id": parent_id,
        "argsrepr": arguments_repr(args) if args else "()",
        "kwargsrepr": short_repr(kwargs) if kwargs else "{}",
        "origin": origin,
        "ignore_result": defaults.ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    if parent is not None and parent.meta:
        headers[META] = parent.meta
    draft = Draft(name, headers, args, kwargs, NO_EMBED, reply_to=reply_to)
    draft.priority = defaults.priority or 0
    if inherit_priority and parent is not None:
        inherited = parent.delivery_info.get("priority")
        draft.priority = draft.priority if inherited is None else inherited
    draft.queue = draft.routing_key = defaults.queue or DEFAULT_QUEUE
    if defaults.exchange is not None or defaults.routing_key is not None:
        draft.exchange = defaults.exchange or ""
        draft.routing_key = defaults.routing_key or draft.routing_key
    draft.delivery_mode = defaults.delivery_mode or 2
    expires = options.get("expires", defaults.expires) if options else defaults.expires
    if expires is not None:
        draft.expires_at = instant(name, "expires", expires, clock, zone)
        headers["expires"] = to_iso(draft.expires_at)
    if options:
        _apply_options(draft, options, clock, zone)
    return draft


def _apply_options(draft: Draft, options: Mapping[str, Any], clock: Clock, zone: tzinfo) -> None:
    """Put the options of one call into its draft."""
    name, headers = draft.name, draft.headers
    check_send_options(name, options)
    for key, value in options.items():
        if value is not None and key in _PLAIN_HEADERS:
            headers[_PLAIN_HEADERS[key]] = value
    if options.get(COUNTED) and options.get("chord") is None:
        headers[COUNTED] = True
    if _OF_MEMBERS.issuperset(options):
        if options.get("chord") is not None:
            draft.embed = {**NO_EMBED, "chord": json_form(name, "chord", options["chord"])}
        return
    check_values(name, options)
    if options.get("ignore_result") is False:
        headers[KEEP_RESULT] = True
    _apply_times(draft, options, clock, zone)
    _apply_route(draft, options)
    _apply_links(draft, options)
    _apply_headers(draft, options)


#: Options that are headers as they stand.
_PLAIN_HEADERS: Mapping[str, str] = {
    "shadow": "shadow",
    "group_id": "group",
    "group_index": "group_index",
    "retries": "retries",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "argsrepr": "argsrepr",
    "kwargsrepr": "kwargsrepr",
    "ignore_result": "ignore_result",
    "replaced_task_nesting": "replaced_task_nesting",
    RESULTS: RESULTS,
}
#: Options that nearly all members of groups have, and no others.
_OF_MEMBERS = frozenset({"group_id", "group_index", "chord", COUNTED, "task_id", "add_to_parent"})


def _apply_times(draft: Draft, options: Mapping[str, Any], clock: Clock, zone: tzinfo) -> None:
    name, headers = draft.name, draft.headers
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown is not None:
        draft.due_at = instant(name, "countdown", countdown, clock, zone)
    elif eta is not None:
        draft.due_at = instant(name, "eta", eta, clock, zone)
    if draft.due_at is not None:
        headers["eta"] = to_iso(draft.due_at)
    for index, key in enumerate(("time_limit", "soft_time_limit")):
        if options.get(key) is not None:
            headers["timelimit"][index] = seconds(name, key, options[key])


def _apply_route(draft: Draft, options: Mapping[str, Any]) -> None:
    queue, routing_key = options.get("queue"), options.get("routing_key")
    if queue is not None:
        draft.queue = draft.routing_key = queue
        draft.exchange = ""
    if options.get("exchange") is not None:
        draft.exchange = options["exchange"]
    if routing_key is not None:
        draft.routing_key = routing_key
    if options.get("priority") is not None:
        draft.priority = options["priority"]
    if options.get("delivery_mode") is not None:
        draft.delivery_mode = {"transient": 1, "persistent": 2}.get(
            options["delivery_mode"], options["delivery_mode"]
        )
    if options.get("reply_to") is not None:
        draft.reply_to = options["reply_to"]
    if options.get("mandatory"):
        draft.properties = {"mandatory": True}


def _apply_links(draft: Draft, options: Mapping[str, Any]) -> None:
    embed: dict[str, Any] = {
        "callbacks": json_forms(draft.name, "link", options.get("link")),
        "errbacks": json_forms(draft.name, "link_error", options.get("link_error")),
        "chain": json_forms(draft.name, "chain", options.get("chain")),
        "chord": None,
    }
    chord = options.get("chord")
    if chord is not None:
        embed["chord"] = json_form(draft.name, "chord", chord)
    if embed["chain"] is not None:
        ends = end_header(embed["chain"])
        if ends is not None:
            draft.headers[ENDS] = ends
    if any(value is not None for value in embed.values()):
        draft.embed = embed


def _apply_headers(draft: Draft, options: Mapping[str, Any]) -> None:
    own = options.get("headers")
    if own:
        for key in own:
            if key in RESERVED_HEADERS:
                raise InvalidTaskError(
                    f"sending task {draft.name!r}: header {key!r} is the protocol's own; "
                    f"give yours another name"
                )
        draft.headers.update(own)
    meta = options.get("meta")
    if meta is not None:
        draft.headers[META] = {**draft.headers.get(META, {}), **meta}
    stamps = dict(options.get("stamps") or {})
    names = list(options.get("stamped_headers") or ())
    stamps.update({key: options[key] for key in names if key in options})
    if stamps or names:
        draft.headers["stamped_headers"] = names + [key for key in stamps if key not in names]
        draft.headers["stamps"] = stamps


def encode_draft(
    draft: Draft, serializer: Serializer, compression: str | None, *, max_bytes: int | None = None
) -> Message:
    """Return the message of `draft`.

    Raises: EncodeError: an argument can't be encoded, or the body is over `max_bytes`.
    """
    try:
        body = serializer.dumps([draft.args, draft.kwargs, draft.embed])
    except EncodeError as exc:
        raise EncodeError(f"task {draft.name!r} can't be sent: {exc}") from exc
    if max_bytes is not None and len(body) > max_bytes:  # uncompressed, as its reader counts
        raise EncodeError(
            f"the arguments of task {draft.name!r} take {len(body)} bytes, which is over "
            f"task_message_max_bytes ({max_bytes}); pass a reference to the data"
        )
    if compression is not None:
        body, draft.headers["compression"] = compress(compression, body)
    return Message(
        id=draft.headers["id"],
        task=draft.name,
        queue=draft.queue,
        headers=draft.headers,
        body=body,
        content_type=serializer.content_type,
        content_encoding=serializer.content_encoding,
        priority=draft.priority,
        due_at=draft.due_at,
        expires_at=draft.expires_at,
        exchange=draft.exchange,
        routing_key=draft.routing_key,
        reply_to=draft.reply_to,
        delivery_mode=draft.delivery_mode,
        properties=draft.properties,
    )


def build_message(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    serializer: Serializer,
    compression: str | None = None,
    listeners: Sequence[Callable[[Draft], None]] = (),
    **how: Any,
) -> Message:
    """Return the message of one call: `draft_message`, then `listeners`, then `encode_draft`."""
    draft = draft_message(name, args, kwargs, options, **how)
    for listener in listeners:
        listener(draft)
    return encode_draft(draft, serializer, compression)


_origins: dict[int, str] = {}


def default_origin() -> str:
    """Return the node name of a process that isn't a worker: ``gen<pid>@<host>``."""
    pid = os.getpid()
    origin = _origins.get(pid)
    if origin is None:
        _origins.clear()
        origin = _origins[pid] = f"gen{pid}@{hostname()}"
    return origin
