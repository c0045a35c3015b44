"""AsyncResult on an event loop, and callbacks: what goes through the waiter's thread."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from umbel.errors import (
    BackendError,
    BackendUnavailableError,
    DecodeError,
    ResultTimeoutError,
    TaskRevokedError,
)
from umbel.interfaces.backend import Backend
from umbel.outcomes import StoredResult
from umbel.requests import Request, reset_current_request, set_current_request
from umbel.results import AsyncResult

LONG = 30.0


class Wrapper(Backend):
    """Passes all on to another backend, and counts."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.largest = 0
        self.threads: set[int] = set()

    def store(self, results):
        return self.backend.store(results)

    def load(self, task_ids):
        self.threads.add(threading.get_ident())
        self.largest = max(self.largest, len(task_ids))
        return self.backend.load(task_ids)

    def forget(self, task_ids):
        self.backend.forget(task_ids)

    def wait(self, task_ids, *, timeout_s):
        self.threads.add(threading.get_ident())
        self.largest = max(self.largest, len(task_ids))
        return self.backend.wait(task_ids, timeout_s=timeout_s)

    def interrupt(self):
        self.backend.interrupt()


class DeafBackend(Wrapper):
    """Never hears of a result: each wait ends with nothing."""

    def wait(self, task_ids, *, timeout_s):
        self._interrupted.wait(timeout_s)
        self._interrupted.clear()
        return {}

    def interrupt(self):
        self._interrupted.set()


class DeafToInterrupts(Wrapper):
    """Doesn't end a wait for those who come later."""

    def interrupt(self):
        pass


class AbsentBackend(Wrapper):
    """Can't be reached for its first `failures` calls."""

    def __init__(self, backend: Backend, failures: float) -> None:
        super().__init__(backend)
        self.failures = failures

    def load(self, task_ids):
        if self.failures > 0:
            self.failures -= 1
            raise BackendUnavailableError("no route to store 'x'")
        return super().load(task_ids)


class BrokenBackend(Wrapper):
    """Is there, and is of no use."""

    def load(self, task_ids):
        raise ZeroDivisionError("a bug")


def waiter_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "umbel-results"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


# -- await ------------------------------------------------------------------------------------


def test_await_returns_the_value(result, store):
    store("t1", 42)

    async def main():
        return await result

    assert asyncio.run(main()) == 42


def test_await_returns_what_is_stored_meanwhile(result, store, soon):
    soon(store, "t1", 42)

    assert asyncio.run(result.aget(timeout=LONG)) == 42


def test_await_of_a_result_that_was_read_needs_no_thread(result, store):
    store("t1", 42)
    assert result.ready()

    assert asyncio.run(result.aget()) == 42
    assert waiter_threads() == []


def test_await_raises_the_error_of_the_task(result, store, soon):
    soon(store, "t1", state="REVOKED", error=TaskRevokedError("revoked"))

    with pytest.raises(TaskRevokedError, match="revoked"):
        asyncio.run(result.aget(timeout=LONG))


def test_await_returns_the_error_without_propagate(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))

    assert isinstance(asyncio.run(result.aget(LONG, propagate=False)), ValueError)


def test_callback_of_aget_is_given_id_and_value(result, store):
    store("t1", 3)
    seen = []

    asyncio.run(result.aget(LONG, callback=lambda *args: seen.append(args)))

    assert seen == [("t1", 3)]


def test_await_of_an_ignored_result_is_none(result):
    result.ignored = True

    assert asyncio.run(result.aget()) is None


def test_await_times_out_with_id_state_and_seconds(result, store):
    store("t1", state="STARTED", meta={})

    with pytest.raises(ResultTimeoutError, match=r"'t1' has no result after 0\.3 s .*STARTED"):
        asyncio.run(result.aget(timeout=0.3))


@pytest.mark.parametrize("timeout", [0, -1])
def test_await_without_time_looks_once(result, store, timeout):
    with pytest.raises(ResultTimeoutError, match="PENDING"):
        asyncio.run(result.aget(timeout=timeout))

    store("t1", 3)
    assert asyncio.run(result.aget(timeout=timeout)) == 3


def test_missed_notification_costs_a_second_and_not_the_answer(make_source, backend, store, soon):
    result = AsyncResult("t1", make_source(DeafBackend(backend)))
    soon(store, "t1", "heard")

    assert asyncio.run(result.aget(timeout=LONG)) == "heard"


def test_missed_interrupt_costs_a_second_and_not_the_answer(make_source, backend, store):
    source = make_source(DeafToInterrupts(backend))

    async def main():
        first = asyncio.ensure_future(AsyncResult("never", source).aget())
        await asyncio.sleep(0.1)
        store("t1", "late")
        value = await AsyncResult("t1", source).aget(timeout=LONG)
        first.cancel()
        return value

    assert asyncio.run(main()) == "late"


def test_await_inside_a_task_is_no_danger(result, store):
    store("t1", 1)

    async def main():
        tokens = set_current_request(Request(id="outer", task="x", called_directly=False))
        try:
            return await result
        finally:
            reset_current_request(tokens)

    assert asyncio.run(main()) == 1


def test_event_loop_goes_on_while_a_result_is_awaited(result, store):
    async def main():
        waiting = asyncio.ensure_future(result.aget(timeout=LONG))
        for _ in range(5):
            await asyncio.sleep(0.01)
        store("t1", "done")
        return await waiting

    assert asyncio.run(main()) == "done"


def test_awaiting_never_reads_on_the_event_loop(make_source, backend, store):
    counting = Wrapper(backend)
    store("t1", 1)

    asyncio.run(AsyncResult("t1", make_source(counting)).aget(timeout=LONG))

    assert threading.get_ident() not in counting.threads


def test_thousands_are_awaited_by_one_thread(make_source, backend, store):
    counting = Wrapper(backend)
    source = make_source(counting)
    ids = [f"t{number}" for number in range(2_500)]

    async def main():
        waiting = [asyncio.ensure_future(AsyncResult(key, source).aget(LONG)) for key in ids]
        await asyncio.sleep(0)
        threads = len(waiter_threads())
        for start in range(0, len(ids), 100):
            store.many(ids[start : start + 100])
            await asyncio.sleep(0)
        return threads, await asyncio.gather(*waiting)

    threads, values = asyncio.run(main())

    assert threads == 1
    assert values == ids
    assert counting.largest <= 1000


def test_newest_of_thousands_is_not_kept_waiting(source, store):
    async def main():
        waiting = [
            asyncio.ensure_future(AsyncResult(f"never{number}", source).aget())
            for number in range(1_500)
        ]
        last = asyncio.ensure_future(AsyncResult("last", source).aget(timeout=LONG))
        await asyncio.sleep(0.05)
        store("last", "here")
        value = await last
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return value

    assert asyncio.run(main()) == "here"


def test_many_may_await_one_task(source, store, soon):
    soon(store, "t1", 7)

    async def main():
        return await asyncio.gather(*(AsyncResult("t1", source).aget(LONG) for _ in range(20)))

    assert asyncio.run(main()) == [7] * 20


def test_several_loops_may_await_one_task(source, store):
    values = []

    def on_a_loop_of_its_own():
        values.append(asyncio.run(AsyncResult("t1", source).aget(LONG)))

    threads = [threading.Thread(target=on_a_loop_of_its_own) for _ in range(3)]
    for thread in threads:
        thread.start()
    store("t1", 7)
    for thread in threads:
        thread.join()

    assert values == [7, 7, 7]


def test_cancelled_await_is_forgotten(source, store):
    async def main():
        waiting = asyncio.ensure_future(AsyncResult("t1", source).aget())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())

    wait_until(lambda: len(source.waiter()) == 0)


def test_cancelled_await_leaves_others_of_the_task_waiting(source, store):
    async def main():
        first = asyncio.ensure_future(AsyncResult("t1", source).aget())
        second = asyncio.ensure_future(AsyncResult("t1", source).aget(LONG))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0)
        store("t1", "still")
        return await second

    assert asyncio.run(main()) == "still"


def test_loop_that_is_gone_harms_nobody(source, store):
    loop = asyncio.new_event_loop()
    abandoned = loop.create_future()
    source.waiter().add("t1", abandoned.set_result, loop=loop)
    loop.close()

    async def main():
        store("t1", "there")
        return await AsyncResult("t1", source).aget(LONG)

    assert asyncio.run(main()) == "there"


def test_outage_is_waited_out(make_source, backend, store, caplog):
    caplog.set_level(logging.INFO, logger="umbel.results")
    store("t1", "back")
    result = AsyncResult("t1", make_source(AbsentBackend(backend, failures=2)))

    assert asyncio.run(result.aget(timeout=LONG)) == "back"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_outage_that_lasts_is_named_at_the_timeout(make_source, backend):
    result = AsyncResult("t1", make_source(AbsentBackend(backend, failures=float("inf"))))

    with pytest.raises(ResultTimeoutError, match="can't be reached: no route to store 'x'"):
        asyncio.run(result.aget(timeout=0.3))


def test_backend_that_fails_otherwise_is_an_error_at_once(make_source, backend):
    result = AsyncResult("t1", make_source(BrokenBackend(backend)))

    with pytest.raises(BackendError, match="'t1' failed: a bug") as info:
        asyncio.run(result.aget(timeout=LONG))
    assert isinstance(info.value.__cause__, ZeroDivisionError)


def test_forgetting_ends_the_awaiting(source, store):
    async def main():
        waiting = asyncio.ensure_future(AsyncResult("t1", source).aget(LONG))
        await asyncio.sleep(0.05)
        await AsyncResult("t1", source).aforget()
        return await waiting

    with pytest.raises(BackendError, match="forgotten"):
        asyncio.run(main())


def test_closing_ends_the_awaiting(source):
    async def main():
        waiting = asyncio.ensure_future(AsyncResult("t1", source).aget(LONG))
        await asyncio.sleep(0.05)
        source.close()
        return await waiting

    with pytest.raises(BackendError, match="app was closed"):
        asyncio.run(main())
    assert waiter_threads() == []


def test_source_can_be_used_again_after_close(source, store):
    source.close()
    store("t1", 1)

    assert asyncio.run(AsyncResult("t1", source).aget(LONG)) == 1


def test_error_of_a_parent_is_raised_while_awaiting(source, store, soon):
    first = AsyncResult("p1", source)
    last = AsyncResult("t1", source, parent=AsyncResult("p2", source, parent=first))
    store("p1", 1)
    soon(store, "p2", state="FAILURE", error=ValueError("second step"))

    with pytest.raises(ValueError, match="second step"):
        asyncio.run(last.aget(timeout=LONG))


def test_parents_that_succeed_leave_the_result_to_be_awaited(source, store, soon):
    last = AsyncResult("t1", source, parent=AsyncResult("p1", source))
    store("p1", 1)
    soon(store, "t1", 3)

    assert asyncio.run(last.aget(timeout=LONG)) == 3


def test_parents_can_be_left_aside_while_awaiting(source, store, soon):
    last = AsyncResult("t1", source, parent=AsyncResult("p1", source))
    store("p1", state="FAILURE", error=ValueError("first step"))
    soon(store, "t1", 3)

    assert asyncio.run(last.aget(timeout=LONG, follow_parents=False)) == 3


def test_twins_of_what_reads(result, store):
    store("t1", state="PROGRESS", meta={"done": 1})

    async def read():
        return (
            await result.astate(),
            await result.aresult(),
            await result.aready(),
            await result.asuccessful(),
            await result.afailed(),
            await result.aexists(),
            (await result.adocument()).status,
        )

    assert asyncio.run(read()) == ("PROGRESS", {"done": 1}, False, False, False, True, "PROGRESS")

    store("t1", 5)
    assert asyncio.run(read()) == ("SUCCESS", 5, True, True, False, True, "SUCCESS")


def test_twin_of_forget(result, store):
    store("t1", 5)

    asyncio.run(result.aforget())

    assert not result.exists()


def test_twin_of_revoke(result, revoked):
    asyncio.run(result.arevoke(terminate=True))

    assert revoked == [(("t1",), True, "SIGTERM")]


# -- then -------------------------------------------------------------------------------------


def test_then_calls_back_when_the_task_is_over(result, store, soon):
    seen = []
    soon(store, "t1", 3)

    assert result.then(lambda done: seen.append(done.get())) is result

    wait_until(lambda: seen == [3])


def test_then_calls_back_at_once_where_the_result_was_read(result, store):
    store("t1", 3)
    assert result.ready()
    seen = []

    result.then(seen.append)

    assert seen == [result]


def test_then_calls_back_after_a_failure_too(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))
    seen = []

    result.then(lambda done: seen.append(done.state))

    wait_until(lambda: seen == ["FAILURE"])


def test_on_error_takes_the_failure(result, store):
    store("t1", state="FAILURE", error=ValueError("bad"))
    values, errors = [], []

    result.then(values.append, on_error=errors.append)

    wait_until(lambda: [str(error) for error in errors] == ["bad"])
    assert values == []


def test_on_error_is_told_that_the_waiting_ended(result):
    errors = []
    result.then(errors.append, on_error=errors.append)

    result.forget()

    assert "forgotten" in str(errors[0])


def test_on_error_is_told_that_the_result_cannot_be_read(result, backend):
    backend.store([StoredResult(task_id="t1", state="SUCCESS", body=b"\x80")])
    errors = []

    result.then(errors.append, on_error=errors.append)

    wait_until(lambda: [type(error) for error in errors] == [DecodeError])


def test_ended_waiting_without_on_error_is_logged(result, caplog):
    result.then(lambda _: None)

    result.forget()

    assert "no callback for task 't1'" in caplog.text


def test_callback_that_raises_is_logged_and_stops_nobody(source, store, caplog):
    store("t1", 1)
    store("t2", 2)
    seen = []

    AsyncResult("t1", source).then(lambda _: 1 / 0)
    AsyncResult("t2", source).then(seen.append)

    wait_until(lambda: seen == ["t2"])
    wait_until(lambda: "callback on the result of task 't1' failed" in caplog.text)


# -- processes --------------------------------------------------------------------------------

FORKING = """
import asyncio, os, sys
from umbel.builtin.json_serializer import JsonSerializer
from umbel.builtin.memory.backend import MemoryBackend
from umbel.clock import SYSTEM_CLOCK
from umbel.outcomes import StoredResult
from umbel.results.codec import encode_result
from umbel.results.source import ResultSource
from umbel.results import AsyncResult

serializer, handles = JsonSerializer(), {}

def backend():
    pid = os.getpid()
    if pid not in handles:
        handles[pid] = MemoryBackend.from_url("memory://", options={}, clock=SYSTEM_CLOCK)
    return handles[pid]

def store(key, value):
    body = encode_result(task_id=key, state="SUCCESS", value=serializer.dumps(value),
                         serializer=serializer)
    backend().store([StoredResult(task_id=key, state="SUCCESS", body=body)])

source = ResultSource(backend=backend, serializer=lambda: serializer)
seen = []
AsyncResult("before", source).then(seen.append)   # the parent's thread waits
pid = os.fork()
store("t1", "child" if pid == 0 else "parent")
value = asyncio.run(AsyncResult("t1", source).aget(timeout=20))
if pid == 0:
    os._exit(0 if value == "child" else 1)
store("before", 1)
assert value == "parent"
assert asyncio.run(AsyncResult("before", source).aget(timeout=20)) == 1
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_process_awaits_on_its_own():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
