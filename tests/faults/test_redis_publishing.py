"""A publisher whose connection is lost at any byte: no success without a message, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from redis_servers import RedisServer

from umbel import Umbel
from umbel.errors import BrokerUnavailableError

pytestmark = pytest.mark.faults

Send = Callable[[Umbel, int], list[str]]


def one(app: Umbel, number: int) -> list[str]:
    return [app.send_task("tasks.work", (number,)).id]


def many(app: Umbel, number: int) -> list[str]:
    """Send to several lists: one transaction."""
    calls = [
        ("tasks.work", (number, each), {}, {"queue": f"q{each % 2}", "priority": each})
        for each in range(6)
    ]
    return [result.id for result in app.send_many(calls)]


def later(app: Umbel, number: int) -> list[str]:
    return [app.send_task("tasks.work", (number,), countdown=600).id]


def once(app: Umbel, number: int) -> list[str]:
    name = f"id-{number}"
    return [app.send_task("tasks.work", (number,), task_id=name, on_conflict="return").id]


WAYS = [one, many, later, once]
#: Messages vary in length by a few bytes: so many cuts at their ends may miss them.
UNCUT = 16


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(redis_server.port) as made:
        yield made


@pytest.fixture
def make_app(redis_server: RedisServer, proxy: CuttingProxy) -> Iterator[Callable[..., Umbel]]:
    made: list[Umbel] = []

    def make(**settings: Any) -> Umbel:
        made.append(Umbel("sender", broker=redis_server.url_of(0, proxy.port), **settings))
        return made[-1]

    yield make
    for app in made:
        app.close()


def stored(server: RedisServer) -> Counter[str]:
    """Return how often each message is in the queues."""
    app = Umbel("looker", broker=server.url)
    try:
        found: Counter[str] = Counter()
        for queue in app.broker.queues():
            found.update(each.id for each in app.broker.peek(queue, limit=10_000))
        return found
    finally:
        app.close()


def places(size: int) -> list[int]:
    """Return where to cut: at both ends at every byte, in between now and then."""
    ends = [*range(min(size, 24)), *range(max(size - 24, 0), size)]
    return sorted({*ends, *range(0, size, max(size // 12, 1))})


def cuts(app: Umbel, proxy: CuttingProxy, send: Send) -> Iterator[dict[str, int]]:
    """Yield all cuts of what `send` sends and is answered."""
    send(app, -2)  # says what is said once
    proxy.measure()
    send(app, -1)
    size = proxy.measure()
    for way in ("sent", "answered"):
        for place in places(size[way]):
            yield {way: place}


@pytest.mark.parametrize("send", WAYS)
def test_what_is_sent_again_after_a_cut_is_there_once(
    redis_server: RedisServer, proxy: CuttingProxy, make_app: Callable[..., Umbel], send: Send
) -> None:
    policy = {"interval_start": 0, "interval_step": 0, "interval_max": 0}
    app = make_app(task_publish_retry_policy=policy)
    wanted: set[str] = set()
    uncut = 0
    for number, cut in enumerate(cuts(app, proxy, send)):
        proxy.cut_after(**cut)
        wanted.update(send(app, number))
        uncut += not proxy.has_cut

    found = stored(redis_server)
    assert uncut <= UNCUT
    assert {each: found[each] for each in wanted} == dict.fromkeys(wanted, 1)


@pytest.mark.parametrize("send", WAYS)
def test_no_cut_is_a_success_without_a_message(
    redis_server: RedisServer, proxy: CuttingProxy, make_app: Callable[..., Umbel], send: Send
) -> None:
    app = make_app(task_publish_retry=False)
    told: set[str] = set()
    failures = uncut = 0
    for number, cut in enumerate(cuts(app, proxy, send)):
        proxy.cut_after(**cut)
        try:
            told.update(send(app, number))
        except BrokerUnavailableError:
            failures += 1
        uncut += not proxy.has_cut

    found = stored(redis_server)
    assert uncut <= UNCUT
    assert told <= set(found)
    assert max(found.values()) == 1
    assert failures > 0
