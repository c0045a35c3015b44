"""Tasks that Celery's clients and workers send without anybody having written them.

`add.map([...])` is a message for ``celery.map``, and so on. They aren't among the tasks of the app:
a worker makes them when it is asked for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from umbel.canvas.references import STORED, stored
from umbel.errors import AlreadySentError, InvalidTaskError, Replace
from umbel.requests import ids_after
from umbel.sender import Call, Sender
from umbel.signatures import Signature
from umbel.tasks.task import Task

if TYPE_CHECKING:
    from umbel.worker.host import Host

AnyTask = Task[..., Any]

_SEND_BATCH = 1000


def celery_task(name: str, host: Host) -> AnyTask | None:
    """Return Celery's own task of that name, made for the app `host`; None: it has none."""
    function = _FUNCTIONS.get(name)
    return None if function is None else _made(name, function, host)


def unknown_task(name: str, host: Host) -> AnyTask:
    """Return what stands for a task that nobody has written; it is never run."""
    return _made(name, _ping, host)


def _made(name: str, function: Callable[..., Any], host: Host) -> AnyTask:
    task: AnyTask = Task()
    # An app is both: what a worker needs, and what a task does.
    task.attach(cast("Sender", host), name, function, bind=True, options={"typing": False})
    task.resolve_options()
    return task


def _map(self: AnyTask, task: Any, it: Sequence[Any]) -> list[Any]:
    return _each(self, task, ((item,) for item in it))


def _starmap(self: AnyTask, task: Any, it: Sequence[Any]) -> list[Any]:
    return _each(self, task, (tuple(item) for item in it))


def _chunks(self: AnyTask, task: Any, it: Sequence[Any], n: int) -> list[Any]:
    """Send a `starmap` for every `n` items; return the result tuple of the group that they are."""
    request = self.request
    group_id, new_id = request.id or "", ids_after(request)
    items = iter(it)
    calls: list[Call] = []
    while piece := list(islice(items, n)):
        index = len(calls)
        options = {
            "task_id": new_id(f"chunk:{index}"),
            "group_id": group_id,
            "group_index": index,
        }
        calls.append(Call("celery.starmap", (), {"task": task, "it": piece}, options))
    try:
        self.app.send_calls(calls, batch=_SEND_BATCH)
    except AlreadySentError:  # by a run before this one, whose end was lost
        for call in calls:
            _send_unless_sent(self.app, call)
    return [[group_id, None], [[[call.options["task_id"], None], None] for call in calls]]


def _send_unless_sent(app: Sender, call: Call) -> None:
    with suppress(AlreadySentError):
        app.send_call(call)


def _accumulate(_self: AnyTask, *args: Any, index: int | None = None) -> Any:
    """Return its arguments, or the one at `index`: the results that it is the body of."""
    return list(args) if index is None else args[index]


def _stored(self: AnyTask, *args: Any, key: str) -> NoReturn:
    """Run the piece of a workflow that is kept under `key`, in the place of this task.

    A worker of Celery passes a reference on as it is; it is looked up when this is settled.
    """
    raise Replace(stored(self.name, args, {"key": key}))


def _ping(_self: AnyTask) -> str:
    return "pong"


def _backend_cleanup(self: AnyTask) -> None:
    """Drop all expired results, where the backend doesn't do it by itself."""
    backend = self.backend
    while backend is not None and backend.expire():
        pass


def _each(self: AnyTask, raw: Any, calls: Iterator[tuple[Any, ...]]) -> list[Any]:
    """Call a task as a function, again and again, here."""
    signature = Signature.from_dict(raw)
    task = self.app.tasks.resolve(signature.task)
    if task is None:
        raise InvalidTaskError(f"{self.name} of task {signature.task!r}, which isn't registered")
    if not task.is_coroutine:
        return [_result(task, task(*_arguments(task, args))) for args in calls]

    async def run() -> list[Any]:
        return [_result(task, await task(*_arguments(task, args))) for args in calls]

    return asyncio.run(run())


def _arguments(task: AnyTask, args: tuple[Any, ...]) -> Sequence[Any]:
    return task.convert_arguments(args, {})[0] if task.convert_arguments is not None else args


def _result(task: AnyTask, value: Any) -> Any:
    return task.convert_result(value) if task.convert_result is not None else value


_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "celery.map": _map,
        "celery.starmap": _starmap,
        "celery.chunks": _chunks,
        "celery.accumulate": _accumulate,
        "celery.ping": _ping,
        STORED: _stored,
        "celery.backend_cleanup": _backend_cleanup,
    }
)
