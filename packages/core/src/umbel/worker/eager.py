"""Running a message here and now, by the code that a worker runs it with.

What follows from it is for `umbel.worker.eager_workflows`.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.errors import InvalidTaskError, SoftTimeLimitExceeded, UnknownTaskError
from umbel.messages import Delivery, Message
from umbel.outcomes import Outcome
from umbel.worker import loops
from umbel.worker.decode import Decoder
from umbel.worker.execute import run_async_for_value, run_for_value
from umbel.worker.jobs import Job, Settlement
from umbel.worker.limits import DeadlineWatch, Interruptible, ThreadGuard

if TYPE_CHECKING:
    from umbel.worker.host import Host


class EagerRun(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a message that was run here."""

    job: Job
    outcome: Outcome
    #: What the task returned or raised.
    value: Any
    done_at: float


def run_one(host: Host, decoder: Decoder, message: Message) -> EagerRun:
    """Run one message; an eta in it is passed over.

    Raises: UnknownTaskError, InvalidTaskError: it can't be run.
    """
    delivery = Delivery(message=message, queue=message.queue, receipt="eager")
    decoded = decoder.decode(delivery)
    if isinstance(decoded, Settlement):
        if host.tasks.resolve(message.task) is None:
            raise UnknownTaskError(f"no task named {message.task!r} is registered, so it can't run")
        raise InvalidTaskError(getattr(decoded.outcome, "reason", "the message can't be run"))
    request = msgspec.structs.replace(decoded.request, is_eager=True)
    job = msgspec.structs.replace(decoded, request=request)
    now = host.clock.time
    if job.runner.is_coroutine:
        outcome, value = run_coroutine(job, host)
    else:
        watch = DeadlineWatch()
        try:
            outcome, value = run_for_value(job, ThreadGuard(watch), now)
        finally:
            watch.stop()
    if isinstance(value, KeyboardInterrupt):
        raise value  # Ctrl-C is meant for the program, not for the task
    return EagerRun(job=job, outcome=outcome, value=value, done_at=now())


def run_coroutine(job: Job, host: Host) -> tuple[Outcome, Any]:
    """Run on a new loop; on a thread of its own where this one's loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_on_loop(job, host)
    found: list[tuple[Outcome, Any] | BaseException] = []

    def run() -> None:
        try:
            found.append(_run_on_loop(job, host))
        except BaseException as exc:  # noqa: BLE001 - raised by whoever waits
            found.append(exc)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="umbel-eager")
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _run_on_loop(job: Job, host: Host) -> tuple[Outcome, Any]:
    loop = asyncio.new_event_loop()
    try:
        return loops.run_to_end(loop, _awaited(job, host))
    finally:
        loops.close(loop)


async def _awaited(job: Job, host: Host) -> tuple[Outcome, Any]:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def running(handle: Interruptible) -> None:
        if job.soft_limit_s is not None:
            loop.call_later(job.soft_limit_s, handle.interrupt, task, SoftTimeLimitExceeded)

    return await run_async_for_value(job, host.clock.time, running)
