"""Job → Outcome: run the task. Knows no broker and no backend.

Whatever the task does becomes an outcome; nothing it raises passes through here. The return
value is encoded before anything else happens with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from umbel.canvas.additions import additions_in, without_additions
from umbel.error_info import error_info
from umbel.errors import (
    Ignore,
    InvalidTaskError,
    Reject,
    Replace,
    Resent,
    Retry,
    SerializationError,
    TaskError,
    WorkerLostError,
)
from umbel.events import notify
from umbel.outcomes import ErrorInfo, Failure, Ignored, Outcome, Rejected, Replaced, Success
from umbel.outcomes import Retry as RetryOutcome
from umbel.requests import reset_current_request, set_current_request
from umbel.results.codec import result_too_large
from umbel.worker.jobs import Job
from umbel.worker.limits import Guard, Interruptible, ShutdownInterrupt
from umbel.worker.retrying import autoretry, retry_outcome

logger = logging.getLogger("umbel.worker")

_perf_counter = time.perf_counter
#: Stands for "no value" in `task_finished` listeners of a task that failed without one.
_NULL = b"null"


class ProcessDeath(BaseException):
    """Stands for the death of this process, in tests: it is no outcome and passes through."""


def run_sync(job: Job, guard: Guard, now: Callable[[], float]) -> Outcome:
    """Run a ``def`` task on this thread; raises nothing but `ProcessDeath`.

    Args:
        job: What to run.
        guard: Raises the soft time limit inside the task.
        now: Wall clock, for retries.
    """
    return run_for_value(job, guard, now)[0]


def run_for_value(job: Job, guard: Guard, now: Callable[[], float]) -> tuple[Outcome, Any]:
    """Run as `run_sync`; also return what the task itself returned or raised."""
    # In a context of its own: what a task sets in context variables ends with it.
    return copy_context().run(_run, job, guard, now)


def _run(job: Job, guard: Guard, now: Callable[[], float]) -> tuple[Outcome, Any]:
    runner = job.runner
    children: list[Any] = []
    set_current_request(job.request, children)
    started = _perf_counter()
    outcome: Outcome
    try:
        try:
            args, kwargs = _prepare(job)
            try:
                guard.begin(job.soft_limit_s)
                value = runner.call(*args, **kwargs)
            finally:
                guard.end()
            outcome = _succeeded(job, value, _perf_counter() - started, children)
        except BaseException as exc:  # noqa: BLE001 - a task's error is an outcome
            guard.end()  # once more: an interruption may have come in the middle of it
            value = exc
            outcome = _raised(job, exc, _perf_counter() - started, children, now)
        _tell(job, outcome, value)
        return outcome, value
    finally:
        # The exception and the frame hold each other: let go of it here.
        value = None


async def run_async(
    job: Job, now: Callable[[], float], running: Callable[[Interruptible], None]
) -> Outcome:
    """Run an ``async def`` task on the running loop; raises nothing but `ProcessDeath`.

    Args:
        job: What to run.
        now: Wall clock, for retries.
        running: Told the handle through which the run can be interrupted.
    """
    return (await run_async_for_value(job, now, running))[0]


async def run_async_for_value(
    job: Job, now: Callable[[], float], running: Callable[[Interruptible], None]
) -> tuple[Outcome, Any]:
    """Run as `run_async`; also return what the task itself returned or raised."""
    runner, request = job.runner, job.request
    children: list[Any] = []
    tokens = set_current_request(request, children)
    started = _perf_counter()
    outcome: Outcome
    try:
        try:
            args, kwargs = _prepare(job)
            handle = Interruptible(runner.call(*args, **kwargs))
            running(handle)
            value = await handle
            outcome = _succeeded(job, value, _perf_counter() - started, children)
        except BaseException as exc:  # noqa: BLE001 - a task's error is an outcome
            value = exc
            outcome = _raised(job, exc, _perf_counter() - started, children, now)
        _tell(job, outcome, value)
        return outcome, value
    finally:
        value = None
        reset_current_request(tokens)


def _prepare(job: Job) -> tuple[Any, dict[str, Any]]:
    runner, request = job.runner, job.request
    if runner.events.task_started:
        notify(runner.events.task_started, runner.task, request)
    args: Any = request.args
    kwargs = request.kwargs
    if runner.convert_arguments is not None:
        args, kwargs = runner.convert_arguments(args, kwargs)
    if runner.before_start is not None:
        runner.before_start(request.id, args, kwargs)
    return args, kwargs


def _succeeded(job: Job, value: Any, runtime_s: float, children: list[Any]) -> Success:
    runner, request = job.runner, job.request
    if runner.convert_result is not None:
        value = runner.convert_result(value)
    added = None
    if children:
        children, added = _sorted_out(job, children)
    is_ignored = request.ignore_result
    if is_ignored and not (request.callbacks or request.chain or request.chord or request.is_eager):
        return Success(_NULL, runtime_s, children, added)
    data = runner.result_serializer.dumps(value)
    if len(data) > runner.result_max_bytes:
        raise result_too_large(runner.name, len(data), runner.result_max_bytes)
    return Success(data, runtime_s, children, added)


def _sorted_out(job: Job, left: list[Any]) -> tuple[list[Any], bytes | None]:
    """Return the children among what a run left, and what it added to its chord."""
    added = additions_in(left)
    if not added:
        return left, None
    data = job.runner.task_serializer.dumps([each.to_dict() for each in added])
    return without_additions(left), data


def _raised(
    job: Job,
    exc: BaseException,
    runtime_s: float,
    children: list[Any],
    now: Callable[[], float],
) -> Outcome:
    """Return the outcome of a run that ended with `exc`."""
    try:
        match exc:
            case Retry():
                return retry_outcome(job, exc, now())
            case Ignore():
                return _without_a_result(job, exc, runtime_s, children)
            case Reject() | ShutdownInterrupt() if _is_acknowledged(job):
                exc = _too_late(exc)
            case Reject():
                return Rejected(str(exc.reason or "rejected by the task"), requeue=exc.requeue)
            case ShutdownInterrupt():
                return Rejected("its worker is shutting down", requeue=True)
            case ProcessDeath():
                raise exc
            case SerializationError():
                pass  # the return value can't be encoded: no retry mends that
            case Exception():
                retry = autoretry(job, exc, now())
                if retry is not None:
                    return retry
    except Exception as failed:  # noqa: BLE001 - a retry that can't be made: its options are wrong
        exc = failed
    expected = isinstance(exc, job.runner.throws) if job.runner.throws else False
    return Failure(error_info(exc), runtime_s, expected, None, without_additions(children))


def _without_a_result(
    job: Job, signal: Ignore, runtime_s: float, children: list[Any]
) -> Ignored | Replaced:
    """Return the outcome of a task that something else goes on for, or nothing.

    Raises: EncodeError: what is to run in its place can't be encoded.
    """
    if isinstance(signal, Replace):
        signature = signal.signature
        data = job.runner.task_serializer.dumps(signature.to_dict())
        return Replaced(data, signature.task, runtime_s, _sorted_out(job, children)[1])
    if isinstance(signal, Resent):
        return Ignored("its next run was sent", goes_on=True)
    return Ignored()


def _is_acknowledged(job: Job) -> bool:
    return job.early_ack and not job.request.is_eager


def _too_late(exc: Reject | ShutdownInterrupt) -> TaskError:
    """Return the failure of a task whose message can't be given back nor buried any more."""
    if isinstance(exc, Reject):
        return InvalidTaskError(
            f"the task rejected its message ({exc.reason!r}), which was acknowledged before it "
            f"ran; set acks_late=True"
        )
    return WorkerLostError("worker lost: it was shut down while the task ran")


def _tell(job: Job, outcome: Outcome, value: Any) -> None:
    """Call the task's handlers and the listeners of what came of the run."""
    runner = job.runner
    events = runner.events
    match outcome:
        case Success():
            if runner.on_success is not None:
                _handler(job, runner.on_success, value, *_call_of(job))
            if events.task_succeeded:
                notify(events.task_succeeded, runner.task, job.request, value)
        case Failure():
            if runner.on_failure is not None:
                _handler(job, runner.on_failure, value, *_call_of(job), outcome.error)
            if events.task_failed:
                notify(events.task_failed, runner.task, job.request, outcome.error, value)
        case RetryOutcome():
            if runner.on_retry is not None:
                cause = value.exc if isinstance(value, Retry) else value
                _handler(job, runner.on_retry, cause, *_call_of(job), outcome.error)
            if events.task_retried:
                notify(events.task_retried, runner.task, job.request, outcome.error, outcome.reason)
        case _:
            pass
    if runner.after_return is not None and isinstance(outcome, (Success, Failure, RetryOutcome)):
        state = {Success: "SUCCESS", Failure: "FAILURE", RetryOutcome: "RETRY"}[type(outcome)]
        error: ErrorInfo | None = getattr(outcome, "error", None)
        _handler(job, runner.after_return, state, value, *_call_of(job), error)
    if events.task_finished:
        notify(events.task_finished, runner.task, job.request, outcome, value)


def _call_of(job: Job) -> tuple[str | None, Any, dict[str, Any]]:
    request = job.request
    return request.id, request.args, request.kwargs


def _handler(job: Job, handler: Callable[..., Any], *args: Any) -> None:
    """Call a life-cycle handler of the task; its error changes nothing of the outcome."""
    try:
        handler(*args)
    except (Exception, SystemExit) as exc:
        logger.exception("%s: %s() failed", job.label, getattr(handler, "__name__", handler))
        events = job.runner.events
        if events.task_internal_error:
            notify(events.task_internal_error, job.runner.task, job.request, exc)
