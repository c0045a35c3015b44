"""Waiting by publish/subscribe: one connection, whoever waits for whatever, and nothing missed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from project import wait_for
from result_documents import document, final

from umbel import Umbel
from umbel.errors import BackendUnavailableError
from umbel.ids import new_id
from umbel_backend_redis import feed, waits
from umbel_redis_client import Client, ConnectionLostError, parse_url
from umbel_testing.kit import Running


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch):
    """Leave it to notifications: what is missed is not found by reading anew."""
    monkeypatch.setattr(waits, "_RECHECK_S", 60.0)


def channel(task_id):
    return f"celery-task-meta-{task_id}"


def subscribers(server):
    """Return how many connections are subscribed to anything."""
    return sum(int(client["sub"]) > 0 for client in server.client_list())


def is_watched(server, *task_ids):
    counts = server.pubsub_numsub(*map(channel, task_ids))
    return [count for _, count in counts] == [1] * len(task_ids)


def nothing_is_watched(server):
    return server.pubsub_channels("celery-task-meta-*") == []


def calls(server, command):
    return server.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


@contextmanager
def waiting(backend, *task_ids, timeout_s=30.0):
    """Wait in another thread, which ends with the block at the latest."""
    running = Running(lambda: backend.wait(list(task_ids), timeout_s=timeout_s))
    try:
        yield running
    finally:
        running.result(10, nudge=backend.interrupt)


def test_many_threads_wait_over_one_connection(backend, server):
    results = [final() for _ in range(12)]
    running = [
        Running(lambda one=one: backend.wait([one.task_id, new_id()], timeout_s=30.0))
        for one in results
    ]
    wait_for(lambda: is_watched(server, *(one.task_id for one in results)))
    assert subscribers(server) == 1
    for one in results:  # each in turn, so that the one who reads leaves again and again
        backend.store([one])

    found = [each.result(10) for each in running]
    assert found == [{one.task_id: one} for one in results]


def test_thread_gets_its_result_while_another_reads_on(backend, server):
    others_id, one = new_id(), final()
    with waiting(backend, others_id) as other:
        wait_for(lambda: is_watched(server, others_id))
        with waiting(backend, one.task_id) as running:
            wait_for(lambda: is_watched(server, one.task_id))
            backend.store([one])

            assert running.result(10) == {one.task_id: one}
            assert other.goes_on()


def test_threads_and_coroutines_and_callbacks_wait_over_one_connection(redis_server, server):
    app = Umbel("waiting", broker_url="memory://", result_backend=redis_server.url)
    results, called = [final() for _ in range(30)], []
    handles = [app.AsyncResult(one.task_id) for one in results]
    gets = [Running(lambda each=each: each.get(timeout=30)) for each in handles[:5]]
    for each in handles[5:]:
        each.then(lambda handle: called.append(handle.id))
    wait_for(lambda: is_watched(server, *(one.task_id for one in results)))
    assert subscribers(server) == 1
    backend = app.backend
    backend.store(results)

    assert [each.result(10) for each in gets] == [5] * 5
    wait_for(lambda: len(called) == 25)
    assert subscribers(server) == 1
    app.close()


def test_result_that_is_there_costs_one_exchange(backend, server):
    one = final()
    backend.store([one])
    backend.wait([new_id()], timeout_s=0.001)  # connects
    server.config_resetstat()

    assert backend.wait([one.task_id], timeout_s=30.0) == {one.task_id: one}
    assert (calls(server, "subscribe"), calls(server, "mget")) == (1, 1)


def test_result_that_comes_is_not_read_again(backend, server):
    one = final(token=2)
    with waiting(backend, one.task_id) as running:
        wait_for(lambda: is_watched(server, one.task_id))
        reads = calls(server, "mget")
        backend.store([one])

        assert running.result(10) == {one.task_id: one}
    assert calls(server, "mget") == reads


def test_result_that_was_not_told_is_found_all_the_same(backend, server, monkeypatch):
    monkeypatch.setattr(waits, "_RECHECK_S", 0.2)
    task_id = new_id()
    with waiting(backend, task_id) as running:
        wait_for(lambda: is_watched(server, task_id))
        server.set(channel(task_id), document(task_id))

        assert running.result(10).keys() == {task_id}


def test_result_of_a_body_that_is_no_document_ends_a_wait(backend, server):
    one = final(body=b"\x80\x04", state="FAILURE")
    started = final(one.task_id, body=b"\x80\x03", state="STARTED")
    with waiting(backend, one.task_id) as running:
        wait_for(lambda: is_watched(server, one.task_id))
        backend.store([started])
        backend.store([one])

        assert running.result(10) == {one.task_id: one}


def test_waiting_again_for_the_same_ids_subscribes_to_nothing_anew(backend, server):
    results = [final() for _ in range(40)]
    left = {one.task_id for one in results}
    backend.wait([new_id()], timeout_s=0.001)
    server.config_resetstat()
    for one in results:
        backend.store([one])
        left -= backend.wait(sorted(left), timeout_s=30.0).keys()

    assert left == set()
    assert calls(server, "subscribe") == 1


def test_nothing_stays_subscribed_after_a_wait_without_result(backend, server):
    backend.wait([new_id() for _ in range(3)], timeout_s=0.05)

    wait_for(lambda: nothing_is_watched(server))
    assert subscribers(server) == 0


def test_what_is_over_is_unsubscribed_with_the_next_wait(backend, server):
    one, next_id = final(), new_id()
    backend.store([one])
    backend.wait([one.task_id], timeout_s=30.0)
    with waiting(backend, next_id):
        wait_for(lambda: server.pubsub_channels("*") == [channel(next_id).encode()])


def test_wait_goes_on_after_its_connection_was_cut(redis_server, redis_proxy, open_backend, server):
    backend = open_backend(redis_server.url_of(0, redis_proxy.port))
    one = final()
    with waiting(backend, one.task_id) as running:
        wait_for(lambda: is_watched(server, one.task_id))
        redis_proxy.cut()
        wait_for(lambda: nothing_is_watched(server) or redis_proxy.accepted > 2)
        wait_for(lambda: is_watched(server, one.task_id))
        open_backend(redis_server.url).store([one])

        assert running.result(10) == {one.task_id: one}


def test_all_who_wait_go_on_after_the_server_was_started_anew(redis_server, backend):
    results = [final() for _ in range(4)]
    running = [Running(lambda one=one: patient(backend, one.task_id)) for one in results]
    with redis_server.client() as client:
        wait_for(lambda: is_watched(client, *(one.task_id for one in results)))
    redis_server.restart()
    with redis_server.client() as client:
        wait_for(lambda: is_watched(client, *(one.task_id for one in results)))
        assert subscribers(client) == 1
    backend.store(results)

    assert [each.result(10) for each in running] == [{one.task_id: one} for one in results]


def test_wait_goes_on_after_a_fail_over(redis_sentinel, open_backend, monkeypatch):
    monkeypatch.setattr(waits, "_RECHECK_S", 0.1)  # a look every so often, as in real life
    monkeypatch.setattr(waits, "_QUIET_S", 0.1)
    backend, one = open_backend(redis_sentinel.url), final()
    running = Running(lambda: patient(backend, one.task_id))
    with redis_sentinel.master.client() as server:
        wait_for(lambda: is_watched(server, one.task_id))
    redis_sentinel.fail_over()
    with redis_sentinel.master.client() as server:
        wait_for(lambda: is_watched(server, one.task_id))
    open_backend(redis_sentinel.url).store([one])

    assert running.result(10) == {one.task_id: one}


def patient(backend, task_id):
    """Wait as ``get`` does: again, where the backend can't be reached."""
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        try:
            if found := backend.wait([task_id], timeout_s=5.0):
                return found
        except BackendUnavailableError:
            time.sleep(0.02)
    return {}


def test_wait_fails_where_nothing_can_be_reached(redis_proxy, redis_server, open_backend):
    backend = open_backend(redis_server.url_of(0, redis_proxy.port))
    backend.wait([new_id()], timeout_s=0.01)
    redis_proxy.refuse()

    with pytest.raises(BackendUnavailableError, match="can't be reached"):
        backend.wait([new_id()], timeout_s=30.0)


def test_silent_connection_is_given_up(redis_server, redis_proxy, monkeypatch):
    monkeypatch.setattr(feed, "_QUIET_S", 0.05)
    monkeypatch.setattr(feed, "_PATIENCE_S", 0.2)
    url = redis_server.url_of(0, redis_proxy.port)
    client = Client(parse_url(url, {}, ignored=frozenset()))
    connection = feed.Feed(client, "celery-task-meta-")
    connection.subscribe(["known"])
    wait_for(lambda: connection.take() == ([], []) and not connection._asked)
    redis_proxy.swallow()

    with pytest.raises(ConnectionLostError, match="silent"):
        wait_for(lambda: connection.ready(0.02) or connection.take() is None, 10)


def test_quiet_connection_that_answers_is_kept(redis_server, monkeypatch):
    monkeypatch.setattr(feed, "_QUIET_S", 0.02)
    client = Client(parse_url(redis_server.url, {}, ignored=frozenset()))
    connection = feed.Feed(client, "celery-task-meta-")
    with redis_server.client() as server:
        before = calls(server, "ping")
        wait_for(
            lambda: (
                connection.ready(0.02)
                or connection.take() is None
                or calls(server, "ping") >= before + 3
            )
        )
    connection.close()


def test_interrupt_just_before_a_wait_ends_it(backend):
    backend.interrupt()
    started = time.monotonic()

    assert backend.wait([new_id()], timeout_s=30.0) == {}
    assert time.monotonic() - started < 10


def test_closing_ends_all_waits_and_the_connection(backend, server):
    running = [Running(lambda: backend.wait([new_id()], timeout_s=30.0)) for _ in range(3)]
    wait_for(lambda: len(server.pubsub_channels("*")) == 3)
    backend.close()

    assert [each.result(10) for each in running] == [{}] * 3
    wait_for(lambda: subscribers(server) == 0)


FORK = """
import os, sys, threading, time, warnings
from umbel.clock import SYSTEM_CLOCK
from umbel.outcomes import StoredResult
from umbel_backend_redis.backend import RedisBackend

warnings.simplefilter("ignore")  # of threads at a fork, which are what this is about
backend = RedisBackend(sys.argv[1], options={}, clock=SYSTEM_CLOCK)
found = []
parent = threading.Thread(target=lambda: found.append(backend.wait(["parents"], timeout_s=30)))
parent.start()
backend.wait(["nobodys"], timeout_s=0.05)
child = os.fork()
if child == 0:
    os._exit(0 if backend.wait(["childs"], timeout_s=30).keys() == {"childs"} else 1)
for name in ("childs", "parents"):
    body = b'{"status":"SUCCESS","result":1}'
    backend.store([StoredResult(task_id=name, state="SUCCESS", body=body)])
parent.join(30)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), [list(each) for each in found])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_waits_for_itself(redis_server):
    done = subprocess.run(
        [sys.executable, "-c", FORK, redis_server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.strip() == "0 [['parents']]", done.stderr


LARGE = b'"' + b"x" * 20_000 + b'"'


def test_results_are_found_that_redis_does_not_keep_for_a_subscriber(redis_server, backend):
    redis_server.config_set("client-output-buffer-limit", "pubsub 100000 100000 0")
    results = [final(result=LARGE) for _ in range(50)]
    backend.store(results)
    ids = {each.task_id for each in results}

    assert backend.wait(sorted(ids), timeout_s=30).keys() == ids


def test_who_is_cut_off_since_a_result_is_too_large_finds_it(redis_server, backend, server):
    redis_server.config_set("client-output-buffer-limit", "pubsub 100000 100000 0")
    result = final(result=b'"' + b"x" * 500_000 + b'"')
    with waiting(backend, result.task_id) as running:
        wait_for(lambda: is_watched(server, result.task_id), 10)
        backend.store([result])
        assert running.result(10).keys() == {result.task_id}
