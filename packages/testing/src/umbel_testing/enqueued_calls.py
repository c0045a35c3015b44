"""What waits in the queues of an app, as calls that a test can compare."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.canvas import Signature, chain
from umbel.canvas.references import stored
from umbel.compression import decompress
from umbel.errors import UmbelError
from umbel_testing.draining import peek_all
from umbel_testing.faulty_handles import without_faults

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.messages import Message
    from umbel.tasks.task import Task

_short = reprlib.Repr()
_short.maxstring, _short.maxother = 60, 80
_short.maxlist = _short.maxtuple = _short.maxdict = 8


class Enqueued(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits in a queue."""

    #: The task's name.
    name: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    #: Unix seconds before which it isn't run; None: at once.
    due_at: float | None
    #: Seconds until then; 0 where it is due now.
    countdown: float
    priority: int
    #: How many times it was retried before.
    retries: int
    #: All headers of the message.
    headers: dict[str, Any]
    #: What comes after it in a chain, the next step first.
    chain: list[Signature[Any]] = []
    #: The body of the chord that it is a part of.
    chord: Signature[Any] | None = None

    def __str__(self) -> str:
        words = [_short.repr(each) for each in self.args]
        words += [f"{key}={_short.repr(value)}" for key, value in self.kwargs.items()]
        when = f", due in {self.countdown:g} s" if self.countdown else ""
        return f"{self.name}({', '.join(words)}) in {self.queue!r}{when}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a test says of a call; None: it doesn't matter."""

    name: str | None = None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    #: Seconds from now.
    countdown: float | None = None
    #: Seconds that it may be off.
    within: float = 1.0

    def differences(self, found: Enqueued, app: Umbel) -> list[str]:
        """Return in what `found` isn't as wanted: names of fields, most telling first."""
        differ = []
        if self.name is not None and found.name != self.name:
            differ.append("task")
        if self.args is not None and not _same(list(self.args), found.args, app):
            differ.append("args")
        if self.kwargs is not None and not _same(dict(self.kwargs), found.kwargs, app):
            differ.append("kwargs")
        if self.queue is not None and found.queue != self.queue:
            differ.append("queue")
        if self.countdown is not None and abs(found.countdown - self.countdown) > self.within:
            differ.append("countdown")
        return differ

    def __str__(self) -> str:
        words = [self.name or "any task"]
        if self.args is not None:
            words.append(f"args={_short.repr(list(self.args))}")
        if self.kwargs is not None:
            words.append(f"kwargs={_short.repr(dict(self.kwargs))}")
        if self.queue is not None:
            words.append(f"queue={self.queue!r}")
        if self.countdown is not None:
            words.append(f"countdown={self.countdown:g} (± {self.within:g} s)")
        return " ".join(words)


def enqueued(
    app: Umbel, task: Task[..., Any] | str | None = None, *, queue: str | None = None
) -> list[Enqueued]:
    """Return the calls that wait, those of later among them, next to run first in each queue.

    What a worker holds isn't waiting.

    Args:
        app: The app.
        task: Only calls of this one, or of this name.
        queue: Only those in this queue.
    Raises: CapabilityError: the broker can't show its queues.
    """
    broker = without_faults(app.broker)
    queues: Iterable[str] = broker.queues() if queue is None else [queue]
    found = [_read(message, app) for name in queues for message in peek_all(broker, name)]
    name = name_of(task)
    return [each for each in found if name is None or each.name == name]


def name_of(task: Task[..., Any] | str | None) -> str | None:
    """Return the name of a task, or of what is one."""
    return task if task is None or isinstance(task, str) else task.name


def seconds_until(eta: datetime | float | None, now: float) -> float | None:
    """Return how long after `now` (unix seconds) an eta is; one without a zone is UTC."""
    if eta is None:
        return None
    if isinstance(eta, datetime):
        eta = (eta if eta.tzinfo else eta.replace(tzinfo=UTC)).timestamp()
    return max(0.0, eta - now)


def _read(message: Message, app: Umbel) -> Enqueued:
    args, kwargs, embed = _body(message, app)
    due_at, retries = message.due_at, message.headers.get("retries")
    return Enqueued(
        name=message.task,
        id=message.id,
        args=args,
        kwargs=kwargs,
        queue=message.queue,
        due_at=due_at,
        countdown=0.0 if due_at is None else max(0.0, due_at - app.clock.time()),
        priority=message.priority,
        retries=retries if isinstance(retries, int) else 0,
        headers=message.headers,
        chain=_steps(embed.get("chain") or [], app),
        chord=_whole(embed.get("chord"), app),
    )


def _steps(stack: list[Any], app: Umbel) -> list[Signature[Any]]:
    """Return the steps of a chain in order, those among them that are kept aside."""
    found: list[Signature[Any]] = []
    for each in reversed(stack):
        step = _whole(each, app)
        if isinstance(step, chain):
            found += step.tasks
        elif step is not None:
            found.append(step)
    last = found[-1] if found else None
    if isinstance(last, stored) and (rest := _whole(last, app)) is not last:
        found[-1:] = _steps([rest], app)
    return found


def _whole(raw: Any, app: Umbel) -> Signature[Any] | None:
    """Return a signature, loaded where it is kept aside; None: it can't be read."""
    try:
        return None if raw is None else app.workflow_store.load(Signature.from_dict(raw))
    except UmbelError:
        return None


def _body(message: Message, app: Umbel) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Decode the body; of one that can't be read, its bytes are shown."""
    body = message.body
    try:
        if compression := message.headers.get("compression"):
            body = decompress(compression, body, max_bytes=app.conf.task_message_max_bytes)
        args, kwargs, *rest = app.serializer(message.content_type).loads(body)
        return list(args), dict(kwargs), dict(rest[0] if rest and rest[0] else {})
    except (UmbelError, TypeError, ValueError):
        return [message.body], {}, {}


def _same(wanted: Any, found: Any, app: Umbel) -> bool:
    """Compare as they are, or as they come out of their journey (a tuple is a list then)."""
    if wanted == found:
        return True
    serializer = app.serializer(app.conf.task_serializer)
    try:
        return bool(serializer.loads(serializer.dumps(wanted)) == found)
    except UmbelError:
        return False
