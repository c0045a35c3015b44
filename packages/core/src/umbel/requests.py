"""A task's request: its message decoded, ready to run, and what the task sees of it.

Frozen: a request is a value, the same for everyone who looks. Inside a running task it is
`umbel.current_request()` and, in bound tasks, ``self.request``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from umbel.ids import derived_id
from umbel.messages import META, SENT_AT, attempts_before, result_order


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and all that is known of it. Field names are Celery's."""

    id: str | None = None
    task: str | None = None
    args: list[Any] | tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    #: How many times it was retried before.
    retries: int = 0
    #: ISO 8601, as in the message; None: at once.
    eta: str | None = None
    expires: str | None = None
    #: [hard, soft], seconds.
    timelimit: tuple[float | None, float | None] = (None, None)
    callbacks: list[Any] | None = None
    errbacks: list[Any] | None = None
    #: Remaining steps of a chain, the next one last.
    chain: list[Any] | None = None
    chord: Any = None
    ignore_result: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    origin: str | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = {}
    #: All headers of the message, the sender's own among them.
    headers: dict[str, Any] = {}
    #: exchange, routing_key, priority, redelivered.
    delivery_info: dict[str, Any] = {}
    #: Fencing token of its delivery (umbel.messages.Delivery.token).
    token: int = 1
    #: Properties of the message: content type, delivery mode …
    properties: dict[str, Any] = {}
    #: Node name of the worker that runs it.
    hostname: str | None = None
    is_eager: bool = False
    #: True where the task was called as a function, without a message.
    called_directly: bool = True

    @property
    def group_id(self) -> str | None:
        """Celery's other name for `group`."""
        return self.group

    @property
    def attempt(self) -> int:
        """How many attempts at the task came before, as `Message.attempt` counts them."""
        return self.retries + attempts_before(self.headers)

    @property
    def result_order(self) -> int:
        """Orders the results of one id, as `Message.result_order` does."""
        return result_order(self.headers, self.attempt)

    @property
    def meta(self) -> dict[str, Any]:
        """What its sender said of it with ``meta=``, and the senders of what it descends from."""
        return self.headers.get(META) or {}

    @property
    def name(self) -> str | None:
        """The task's name."""
        return self.task

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field or header named `key`, or `default`."""
        if key in self.__struct_fields__:
            return getattr(self, key)
        return self.headers.get(key, default)


def ids_after(request: Request) -> Callable[[str], str]:
    """Return what names that which follows from `request`, by its place there."""
    before, sent_at = attempts_before(request.headers), request.headers.get(SENT_AT)
    # What follows from a replay is not what followed from the attempts before it.
    after = f"/{before}" if before else ""
    if sent_at is not None:
        # Nor what followed from another task that its sender gave the same id.
        after += f"@{sent_at}"
    return lambda place: derived_id(request.id or "", f"{place}{after}")


#: What a task sees when it is called as a plain function.
NO_REQUEST = Request()

_current: ContextVar[Request] = ContextVar("umbel_request", default=NO_REQUEST)
_children: ContextVar[list[Any] | None] = ContextVar("umbel_children", default=None)


def current_request() -> Request:
    """Return the request of the task that runs in this context; an empty one outside of tasks."""
    return _current.get()


def set_current_request(request: Request, children: list[Any] | None = None) -> tuple[Any, Any]:
    """Make `request` the current one; return tokens for `reset_current_request`.

    `children` collects the result tuples of what the task sends.
    """
    return _current.set(request), _children.set(children)


def reset_current_request(tokens: tuple[Any, Any]) -> None:
    """Undo `set_current_request`."""
    _current.reset(tokens[0])
    _children.reset(tokens[1])


def current_children() -> list[Any] | None:
    """Return the list that collects what the running task sends; None outside of tasks."""
    return _children.get()
