import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import SoftTimeLimitExceeded
from umbel.outcomes import Success
from umbel.worker.execute import run_sync
from umbel.worker.jobs import Job
from umbel.worker.limits import (
    DeadlineWatch,
    Interruptible,
    MainThreadGuard,
    ShutdownInterrupt,
    ThreadGuard,
)


def spin(seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        pass


def test_a_sleeping_task_on_the_main_thread_is_interrupted_at_its_limit() -> None:
    guard = MainThreadGuard()
    began = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded):
        try:
            guard.begin(0.05)
            time.sleep(30)
        finally:
            guard.end()

    assert time.monotonic() - began < 10


def test_no_exception_comes_after_the_task() -> None:
    guard = MainThreadGuard()
    guard.begin(0.02)
    guard.end()

    spin(0.1)


def test_the_main_thread_can_be_interrupted_from_another_thread() -> None:
    guard = MainThreadGuard()
    timer = threading.Timer(0.05, guard.interrupt, [ShutdownInterrupt])
    timer.start()
    with pytest.raises(ShutdownInterrupt):
        try:
            guard.begin(None)
            time.sleep(30)
        finally:
            guard.end()
    timer.join()


def test_a_task_in_any_thread_is_interrupted_at_its_limit() -> None:
    watch = DeadlineWatch()
    raised: list[BaseException] = []

    def work() -> None:
        guard = ThreadGuard(watch)
        try:
            guard.begin(0.05)
            spin(30)
        except SoftTimeLimitExceeded as exc:
            raised.append(exc)
        finally:
            guard.end()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    watch.stop()

    assert len(raised) == 1


def test_a_coroutine_gets_the_error_where_it_awaits_and_may_catch_it() -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            return "cleaned up"
        return "never"

    async def main() -> str:
        handle = Interruptible(work())

        async def drive() -> str:
            result: str = await handle
            return result

        task = asyncio.ensure_future(drive())
        await asyncio.sleep(0)
        handle.interrupt(task, SoftTimeLimitExceeded)
        return await task

    assert asyncio.run(main()) == "cleaned up"


def test_an_ordinary_cancellation_stays_one() -> None:
    async def main() -> None:
        handle = Interruptible(asyncio.sleep(30))

        async def drive() -> None:
            await handle

        task = asyncio.ensure_future(drive())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_deadlines_are_called_in_order_of_time() -> None:
    watch = DeadlineWatch()
    called: list[str] = []
    done = threading.Event()
    watch.after(0.06, lambda: (called.append("second"), done.set()))
    watch.after(0.02, lambda: called.append("first"))

    assert done.wait(10)
    watch.stop()
    assert called == ["first", "second"]


def test_a_cancelled_deadline_is_not_called() -> None:
    watch = DeadlineWatch()
    called: list[str] = []
    done = threading.Event()
    ticket = watch.after(0.02, lambda: called.append("cancelled"))
    watch.cancel(ticket)
    watch.after(0.05, done.set)

    assert done.wait(10)
    watch.stop()
    assert called == []


def test_cancelled_deadlines_do_not_pile_up() -> None:
    watch = DeadlineWatch()
    for _ in range(5000):
        watch.cancel(watch.after(3600, lambda: None))

    assert len(watch._heap) < 1000
    watch.stop()


def test_an_interrupted_coroutine_is_not_a_cancelled_one() -> None:
    async def work() -> int:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()
        return -1

    async def main() -> int:
        handle = Interruptible(work())

        async def drive() -> int:
            result: int = await handle
            return result

        task = asyncio.ensure_future(drive())
        await asyncio.sleep(0)
        handle.interrupt(task, SoftTimeLimitExceeded)
        return await task

    assert asyncio.run(main()) == 0


async def waits_in_a_group(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def works_beside_a_group(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        await asyncio.sleep(30)


async def waits_for_a_while(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.wait_for(child(), 30)


async def gathers(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(child(), child())


@pytest.mark.parametrize(
    "work", [waits_in_a_group, works_beside_a_group, waits_for_a_while, gathers]
)
def test_a_coroutine_at_its_limit_leaves_nothing_running(
    work: Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]],
) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> BaseException | None:
        handle = Interruptible(work(child))

        async def drive() -> None:
            await handle

        task = asyncio.ensure_future(drive())
        await asyncio.sleep(0.01)
        handle.interrupt(task, SoftTimeLimitExceeded)
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return task.exception()

    raised = asyncio.run(main())

    assert type(raised) is SoftTimeLimitExceeded
    assert set(ended) == {"cancelled"}


def test_an_interrupted_coroutine_may_raise_an_error_of_its_own() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            raise LookupError("its own") from None

    async def main() -> None:
        handle = Interruptible(work())

        async def drive() -> None:
            await handle

        task = asyncio.ensure_future(drive())
        await asyncio.sleep(0)
        handle.interrupt(task, SoftTimeLimitExceeded)
        await task

    with pytest.raises(LookupError, match="its own"):
        asyncio.run(main())


@pytest.mark.parametrize("thread", ["main", "any"])
def test_a_limit_that_comes_as_the_task_ends_meets_the_task_or_nothing(
    app: Umbel, job: Callable[..., Job], thread: str
) -> None:
    chance, limit_s = random.Random(3), 0.0005

    @app.task(name="brief", soft_time_limit=limit_s)
    def brief(seconds: float) -> str:
        spin(seconds)
        return "done"

    watch = DeadlineWatch()
    one = MainThreadGuard()
    ended: set[str] = set()
    for _ in range(400):
        guard = one if thread == "main" else ThreadGuard(watch)
        outcome = run_sync(job("brief", limit_s * chance.uniform(0.8, 1.2)), guard, time.time)
        spin(0.0002)  # whatever is to come after the task would come now
        ended.add("done" if isinstance(outcome, Success) else outcome.error.exc_type)
    watch.stop()

    assert ended <= {"done", "SoftTimeLimitExceeded"}


def test_ending_twice_is_as_good_as_once() -> None:
    watch = DeadlineWatch()
    for guard in (MainThreadGuard(), ThreadGuard(watch)):
        guard.begin(0.02)
        guard.end()
        guard.end()

    spin(0.1)
    watch.stop()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a timer of POSIX")
def test_a_task_that_takes_the_alarm_for_itself_does_not_take_it_from_the_next() -> None:
    guard = MainThreadGuard()
    guard.begin(None)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    guard.end()

    with pytest.raises(SoftTimeLimitExceeded):
        try:
            guard.begin(0.02)
            time.sleep(30)
        finally:
            guard.end()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a timer of POSIX")
def test_an_alarm_that_comes_as_a_call_is_about_to_block_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = MainThreadGuard()
    heard: list[float] = []
    hear = guard._on_alarm

    def hard_of_hearing(signum: int, frame: object) -> None:
        heard.append(time.monotonic())
        if len(heard) > 2:  # the first ones came in the wrong moment
            hear(signum, frame)

    monkeypatch.setattr(guard, "_on_alarm", hard_of_hearing)
    with pytest.raises(SoftTimeLimitExceeded):
        try:
            guard.begin(0.01)
            time.sleep(30)
        finally:
            guard.end()

    assert len(heard) == 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
