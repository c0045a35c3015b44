"""Redis answers, but refuses, or forgets what it knew: each is either waited out or a clear error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from project import Project, WorkerProcess, wait_for
from redis_load import PATIENT, Load
from redis_servers import AOF, RedisServer

from umbel.errors import BrokerError, BrokerUnavailableError

pytestmark = pytest.mark.faults

TASKS = 1000


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Load, WorkerProcess]]]:
    """Return a function that starts a worker of two processes on a URL."""
    projects: list[Project] = []

    def make(url: str, **settings: object) -> tuple[Load, WorkerProcess]:
        project = Project(
            tmp_path / f"project-{len(projects)}",
            broker=url,
            backend=url,
            worker_lease_s=10.0,
            **{**PATIENT, **settings},
        )
        projects.append(project)
        return Load(project), project.worker("-c", "2")

    yield make
    for each in projects:
        each.close()


def test_a_master_that_became_a_replica_is_waited_out(
    start: Any, redis_server: RedisServer
) -> None:
    load, worker = start(redis_server.url)
    with load.sending(TASKS, 0.001):
        load.wait_done(TASKS // 4, worker.tell)
        # Of nobody: it keeps what it has, and answers READONLY.
        redis_server.run("REPLICAOF", "127.0.0.1", 1)
        wait_for(lambda: "READONLY" in worker.log, 30, worker.tell)
        redis_server.run("REPLICAOF", "NO", "ONE")

    assert load.check_none_lost(worker.tell) == 0
    assert worker.stop() == 0


def test_a_fail_over_in_the_middle_of_tasks_loses_none(start: Any, redis_sentinel: Any) -> None:
    load, worker = start(redis_sentinel.url)
    master = redis_sentinel.master
    load.send(TASKS, 0.002)
    load.wait_done(TASKS // 10, worker.tell)
    with master.client() as client:
        # What the replica doesn't have yet goes with the master, whatever its clients do.
        client.set("before", 1)
        assert client.wait(1, 30_000) == 1
    master.kill()
    load.send(TASKS, batch=100)  # again and again until there is a new one

    load.check_none_lost(worker.tell)
    assert worker.stop() == 0


def test_an_idle_worker_goes_over_to_a_new_master_though_the_old_one_says_nothing(
    start: Any, redis_sentinel: Any
) -> None:
    load, worker = start(redis_sentinel.url)
    load.send(1)
    load.wait_done(1, worker.tell)
    load.project.app.close()  # what it is connected to
    redis_sentinel.fail_over()
    sent_at = time.time()
    load.send(1)
    load.wait_done(2, worker.tell)

    (began,) = [
        float(at) for what, key, _, at in load.project.lines() if (what, key) == ("begin", "1")
    ]
    print("began after the fail-over, seconds:", began - sent_at)
    assert began - sent_at < 8.0  # the old one says so after ten
    assert load.check_none_lost(worker.tell) == 0
    assert worker.stop() == 0


def test_forgotten_scripts_are_sent_again(start: Any, redis_server: RedisServer) -> None:
    load, worker = start(redis_server.url)
    with load.sending(TASKS, 0.001, batch=1), redis_server.client() as client:
        while load.done < TASKS * 3 // 4:
            client.script_flush()

    assert load.check_none_lost(worker.tell) == 0
    assert "can't" not in worker.log
    assert worker.stop() == 0


def test_connections_that_are_killed_again_and_again_lose_none(
    start: Any, redis_server: RedisServer
) -> None:
    load, worker = start(redis_server.url)
    ended = threading.Event()
    with load.sending(TASKS, 0.003, batch=5), redis_server.client() as client:
        while load.done < TASKS * 3 // 4:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            ended.wait(0.2)

    load.check_none_lost(worker.tell)
    assert worker.stop() == 0


def test_a_full_memory_is_told_to_publishers_and_waited_out_by_workers(
    start: Any, redis_server: RedisServer
) -> None:
    load, worker = start(redis_server.url, task_publish_retry=False)
    load.send(8, 0.5)
    wait_for(lambda: len(load.project.ledger("begin")) == 2, 30, worker.tell)
    redis_server.config_set("maxmemory", 1_000_000)
    held = redis_server.run("LLEN", "celery")

    with pytest.raises(BrokerUnavailableError, match="OOM command not allowed"):
        load.project.app.send_task("tasks.work", ("refused",))
    with pytest.raises(BrokerUnavailableError, match="OOM command not allowed"):
        load.project.app.send_task("tasks.work", ("refused",), countdown=60)
    with pytest.raises(BrokerUnavailableError, match="OOM command not allowed"):
        load.project.app.send_task("tasks.work", ("refused",), task_id="refused")
    assert redis_server.run("LLEN", "celery") <= held
    assert load.project.app.broker.stats("celery").delayed == 0
    wait_for(lambda: "can't settle" in worker.log, 30, worker.tell)
    redis_server.config_set("maxmemory", 0)

    assert load.check_none_lost(worker.tell) == 0
    assert "lease" not in worker.log
    assert worker.stop() == 0


def test_what_needs_no_memory_is_run_where_there_is_none(
    start: Any, redis_server: RedisServer
) -> None:
    load, worker = start(redis_server.url, task_ignore_result=True)
    load.send(6, 0.3)
    wait_for(lambda: len(load.project.ledger("begin")) == 2, 30, worker.tell)
    redis_server.config_set("maxmemory", 1_000_000)

    load.wait_done(6, worker.tell)
    wait_for(lambda: load.project.app.broker.stats("celery").held == 0, 30, worker.tell)
    redis_server.config_set("maxmemory", 0)
    assert worker.stop() == 0


def test_a_user_who_may_nothing_any_more_is_told_so_and_goes_on_when_he_may_again(
    start: Any, redis_password: Any
) -> None:
    user, password = redis_password.user, redis_password.user_password
    load, worker = start(redis_password.user_url)
    load.send(200, 0.01)
    load.wait_done(20, worker.tell)
    redis_password.run("ACL", "SETUSER", user, "off")
    try:
        redis_password.run("CLIENT", "KILL", "USER", user)
        with pytest.raises(BrokerError, match="WRONGPASS") as caught:
            load.project.app.send_task("tasks.work", ("refused",))
        wait_for(lambda: "WRONGPASS" in worker.log, 30, worker.tell)
    finally:
        redis_password.run("ACL", "SETUSER", user, "on")

    assert load.check_none_lost(worker.tell) == 0
    assert password not in f"{caught.value}{worker.log}"
    assert worker.stop() == 0


def test_a_user_who_loses_rights_with_his_connections_open_is_told_so(
    start: Any, redis_password: Any
) -> None:
    load, worker = start(redis_password.user_url)
    load.send(200, 0.01)
    load.wait_done(20, worker.tell)
    redis_password.run("ACL", "SETUSER", redis_password.user, "-@write", "-@scripting")
    try:
        with pytest.raises(BrokerError, match="NOPERM"):
            load.project.app.send_task("tasks.work", ("refused",))
        wait_for(lambda: "NOPERM" in worker.log, 30, worker.tell)
    finally:
        redis_password.run("ACL", "SETUSER", redis_password.user, "+@write", "+@scripting")

    assert load.check_none_lost(worker.tell) == 0
    assert worker.stop() == 0


def test_a_server_that_loads_its_data_for_long_is_waited_out(
    start: Any, tmp_path: Path, redis_server: RedisServer
) -> None:
    # One of its own: it reads again all that was ever written to it.
    server = RedisServer(tmp_path / "redis", *AOF)
    server.start()
    try:
        load, worker = start(server.url, task_publish_retry=False)
        with server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(3000):
                pipe.set(f"other:{number}", number)
            pipe.execute()
        load.send(100, 0.005)
        load.wait_done(20, worker.tell)
        server.kill()
        configuration = server.folder / f"redis-{server.port}.conf"
        # Microseconds for each command that is read: it answers LOADING meanwhile.
        configuration.write_text(f"{configuration.read_text()}key-load-delay 500\n")
        restarting = threading.Thread(target=server.start, kwargs={"any_port": False})
        restarting.start()
        wait_for(lambda: is_loading(load.project), 30)
        restarting.join()

        assert load.check_none_lost(worker.tell) == 0
        assert worker.stop() == 0
    finally:
        server.close()


def is_loading(project: Project) -> bool:
    """Tell whether a publisher is told so, as it must be where nothing was taken."""
    with pytest.raises(BrokerUnavailableError) as caught:
        project.app.send_task("tasks.work", ("refused",))
    return "LOADING" in str(caught.value)


def test_a_slot_that_moves_under_load_loses_none(start: Any, redis_cluster: Any) -> None:
    load, worker = start(redis_cluster.url)
    others = [node for node in redis_cluster.nodes if node is not redis_cluster.node_of("celery")]
    with load.sending(TASKS, 0.002):
        for turn in range(3):
            load.wait_done(TASKS * (turn + 1) // 5, worker.tell)
            redis_cluster.move("celery", others[turn % 2])

    load.check_none_lost(worker.tell)
    assert "write 'redis+cluster://'" not in worker.log
    assert worker.stop() == 0
