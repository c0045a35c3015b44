"""What takes long: all of it is waited for at once, each on a server of its own.

A worker that does nothing is cut off from Redis for 15 s; nodes and processes end while they wait.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from project import Project, wait_for
from redis_fixtures import RedisServers
from redis_nursery import Nursery
from redis_servers import AOF, RedisServer
from tcp_proxy import TcpProxy

from umbel import Umbel
from umbel.clock import SYSTEM_CLOCK
from umbel_broker_redis.broker import RedisBroker

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop and kill"),
]

OUTAGE_S = 15.0
#: Time from the end of an outage to the next task; a busy machine gets three times the goal.
BACK_WITHIN_S = 15.0
IDLE_S = 20.0
#: The goal: commands a second, of each process: the supervisor and two that run tasks.
IDLE_COMMANDS = 2.0
PROCESSES = 3
CRASHES = 50
CRASH_LEASE_S = 2.0


class Place(NamedTuple):
    """A server, and a proxy through which a worker reaches it."""

    folder: Path
    server: RedisServer
    proxy: TcpProxy

    def project(self, **settings: object) -> Project:
        """Return a project whose workers go through the proxy."""
        url = self.server.url_of(0, self.proxy.port)
        return Project(self.folder / "project", broker=url, backend=url, **settings)

    @contextmanager
    def sender(self) -> Iterator[Umbel]:
        """Return an app that goes to the server itself."""
        app = Umbel("sender", broker=self.server.url, backend=self.server.url)
        try:
            yield app
        finally:
            app.close()

    @property
    def waiting(self) -> int:
        """How many connections wait for messages."""
        return int(self.server.info("clients")["blocked_clients"])


# -- outages --------------------------------------------------------------------------------------


@contextmanager
def killed(place: Place) -> Iterator[None]:
    place.server.kill()
    yield
    place.server.start(any_port=False)


@contextmanager
def frozen(place: Place) -> Iterator[None]:
    place.server.pause()
    yield
    place.server.resume()


def black_holed(place: Place) -> AbstractContextManager[None]:
    return place.proxy.broken(TcpProxy.swallow)


def reset(place: Place) -> AbstractContextManager[None]:
    return place.proxy.broken(TcpProxy.reset)


def refused(place: Place) -> AbstractContextManager[None]:
    return place.proxy.broken(TcpProxy.refuse)


OUTAGES = [killed, frozen, black_holed, reset, refused]


def idle_through(
    outage: Callable[[Place], AbstractContextManager[None]],
) -> Callable[[Place], dict[str, float]]:
    """Return a scenario: how many seconds after the outage's end each task began."""

    def run(place: Place) -> dict[str, float]:
        with place.sender() as app:
            project = place.project()
            try:
                worker = project.worker("-c", "2")
                app.send_task("tasks.work", ("before",)).get(timeout=60)
                wait_for(lambda: place.waiting == 8, 30, worker.tell)
                with outage(place):
                    wait_a_while(OUTAGE_S)
                    if outage in {black_holed, reset, refused}:
                        # Here it can be sent: what is under way to Redis shall not swallow it.
                        app.send_task("tasks.work", ("meanwhile",))
                ended_at = time.time()
                app.send_task("tasks.work", ("after",)).get(timeout=60)
                sent = {"before", "meanwhile", "after"}
                wait_for(lambda: set(project.ledger("end")) >= sent - {"meanwhile"}, 60)
                if outage in {black_holed, reset, refused}:
                    wait_for(lambda: set(project.ledger("end")) == sent, 60, worker.tell)
                assert set(project.ledger("begin").values()) == {1}, worker.tell()
                assert worker.stop() == 0, worker.tell()
                return {
                    key: float(at) - ended_at
                    for what, key, _, at in project.lines()
                    if what == "begin"
                }
            finally:
                project.close()

    return run


# -- others ---------------------------------------------------------------------------------------


def idles(place: Place) -> tuple[float, dict[str, int], int, float]:
    """Return the commands a second of an idle worker, all since its server's start, who listens,
    and how soon a task begins.
    """
    with place.sender() as app, place.server.client() as client:
        project = place.project(worker_lease_s=60.0)
        try:
            worker = project.worker("-c", "2")
            app.send_task("tasks.work", ("before",)).get(timeout=60)
            wait_for(lambda: place.waiting == 8, 30, worker.tell)
            before = client.info("stats")["total_commands_processed"]
            wait_a_while(IDLE_S)
            after = client.info("stats")["total_commands_processed"]
            stats = client.info("commandstats")
            used = {name: each["calls"] for name, each in stats.items()}
            (_, listening), *_ = client.pubsub_numsub("umbel:wake:celery")
            sent_at = time.time()
            app.send_task("tasks.work", ("after",)).get(timeout=60)
            began = max(float(at) for what, _, _, at in project.lines() if what == "begin")
            assert "can't" not in worker.log, worker.tell()
            return (after - before - 1) / IDLE_S, used, listening, began - sent_at
        finally:
            project.close()


def runs_for_long(place: Place) -> tuple[str, int]:
    """Return the result of a task that outlives its lease five times, and how often it ran."""
    with place.sender() as app:
        project = place.project(worker_lease_s=2.0)
        try:
            workers = [project.worker("-c", "1", wait=False) for _ in range(2)]
            for worker in workers:
                worker.wait_ready()
            result = app.send_task("tasks.work", ("long", 12.0)).get(timeout=60)
            return result, project.ledger("begin")["long"]
        finally:
            project.close()


def crashes(place: Place) -> tuple[set[str], set[str], float]:
    """Return what was sent to processes that were killed as it came, what came back, and when."""
    chance = random.Random(9)
    sent: list[str] = []
    url = place.server.url
    with place.sender() as app, Nursery(url, "celery", CRASH_LEASE_S) as nursery:
        for turn in range(CRASHES):
            pid = nursery.born(f"crash-{turn}")
            wait_for(lambda: place.waiting == 4)
            sent.append(app.send_task("tasks.work", (str(turn),)).id)
            time.sleep(chance.uniform(0.0, 0.001))  # the random instant
            nursery.kill(pid)
            wait_for(lambda: place.waiting == 0)
    killed_at = time.monotonic()
    back = came_back(url, len(sent))
    return set(sent), back, time.monotonic() - killed_at


def freezes_and_dies(place: Place) -> tuple[set[str], set[str], float]:
    """Return the same of what a process was handed while it was stopped, and then killed."""
    url = place.server.url
    with place.sender() as app, Nursery(url, "celery", CRASH_LEASE_S) as nursery:
        pid = nursery.born("frozen")
        wait_for(lambda: place.waiting == 4)
        os.kill(pid, signal.SIGSTOP)
        sent = {app.send_task("tasks.work", ("frozen",)).id}
        wait_for(lambda: app.broker.stats("celery").held == 1)
        nursery.kill(pid)
    killed_at = time.monotonic()
    back = came_back(url, 1)
    return sent, back, time.monotonic() - killed_at


def came_back(url: str, count: int) -> set[str]:
    """Receive as another node until so many have come, each once."""
    broker = RedisBroker(url, options={}, clock=SYSTEM_CLOCK)
    found: list[str] = []
    try:
        broker.join("other", "other/1", lease_s=60.0)
        ends_at = time.monotonic() + 60
        while len(found) < count and time.monotonic() < ends_at:
            broker.recover_expired()
            got = broker.receive(["celery"], max_messages=100, wait_s=0.1)
            found += [delivery.message.id for delivery in got]
            assert not broker.ack(got)
        assert len(set(found)) == len(found)
    finally:
        broker.close()
    return set(found)


def wait_a_while(seconds: float) -> None:
    """Wait as long as what is measured is to last."""
    threading.Event().wait(seconds)


# -- all at once ----------------------------------------------------------------------------------

SCENARIOS: dict[str, Callable[[Place], Any]] = {
    **{outage.__name__: idle_through(outage) for outage in OUTAGES},
    **{each.__name__: each for each in (idles, runs_for_long, crashes, freezes_and_dies)},
}


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory, redis_servers: RedisServers
) -> Iterator[dict[str, Future[Any]]]:
    """Return what becomes of all scenarios, which run at the same time."""
    redis_servers.get("plain")  # skips where there is no Redis
    places = [make_place(tmp_path_factory.mktemp(name)) for name in SCENARIOS]
    try:
        with ThreadPoolExecutor(len(places)) as threads:
            yield {
                name: threads.submit(SCENARIOS[name], place)
                for name, place in zip(SCENARIOS, places, strict=True)
            }
    finally:
        close(places)


def make_place(folder: Path) -> Place:
    server = RedisServer(folder / "redis", *AOF)
    server.start()
    return Place(folder, server, TcpProxy(server.port))


def close(places: Sequence[Place]) -> None:
    for place in places:
        place.proxy.close()
        place.server.close()


@pytest.mark.parametrize("outage", [outage.__name__ for outage in OUTAGES])
def test_an_idle_worker_goes_on_right_after_an_outage(
    outcomes: dict[str, Future[Any]], outage: str
) -> None:
    took = outcomes[outage].result(180)
    print("began after the end, seconds:", took)

    assert took["after"] < BACK_WITHIN_S
    assert took.get("meanwhile", 0.0) < BACK_WITHIN_S


def test_an_idle_worker_asks_redis_for_next_to_nothing_and_listens(
    outcomes: dict[str, Future[Any]],
) -> None:
    commands, used, listening, began_after = outcomes["idles"].result(180)
    print("commands a second:", commands)

    assert commands <= PROCESSES * IDLE_COMMANDS, used
    assert listening == 2
    assert began_after < 5.0


def test_a_task_of_six_leases_runs_once(outcomes: dict[str, Future[Any]]) -> None:
    assert outcomes["runs_for_long"].result(180) == ("long", 1)


@pytest.mark.parametrize("scenario", ["crashes", "freezes_and_dies"])
def test_what_a_killed_process_was_handed_as_it_waited_comes_back(
    outcomes: dict[str, Future[Any]], scenario: str
) -> None:
    sent, back, took_s = outcomes[scenario].result(180)
    print("came back within seconds:", took_s)

    assert back == sent
    assert took_s < CRASH_LEASE_S + 30.0
