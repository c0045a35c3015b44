"""Recovery goes on beside the supervisor, whatever the broker does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from project import wait_for

from umbel import Umbel
from umbel.interfaces.broker import Broker
from umbel.worker.planning import Planner
from umbel.worker.recovery import DeadChild, Recovery
from umbel.worker.settle import Settler
from umbel.worker.undertaker import Undertaker


@pytest.fixture
def broker(app: Umbel) -> Iterator[Broker]:
    made = app.open_broker()
    made.join("node", "node/supervisor", lease_s=60.0)
    yield made
    made.close()


@pytest.fixture
def dead(app: Umbel) -> Iterator[DeadChild]:
    """A child that held the one message that there is."""
    app.task(name="add")(lambda x, y: x + y)
    app.send_task("add", (1, 2))
    child = app.open_broker()
    child.join("node", "node/0", lease_s=60.0)
    assert child.receive(["celery"], max_messages=1, wait_s=5)
    yield DeadChild(
        consumer="node/0",
        pid=4711,
        exitcode=-9,
        running=frozenset(),
        journal={},
        doomed={},
        was_spared=True,
        died_at=100.0,
    )
    child.close()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def undertaker(app: Umbel, broker: Broker, told: list[str]) -> Iterator[Undertaker]:
    settler = Settler(app, broker, app.backend, planner=Planner(app, "w@host"))
    recovery = Recovery(app, "w@host", broker=broker, settler=settler)
    made = Undertaker(recovery, on_done=lambda: told.append("done"))
    yield made
    made.stop()


def test_the_dead_are_recovered_once_the_outage_is_over_and_nobody_waits_for_it(
    app: Umbel,
    broker: Broker,
    dead: DeadChild,
    undertaker: Undertaker,
    told: list[str],
    fault: Callable[..., Any],
) -> None:
    outage = fault(broker, "held")
    assert undertaker.is_done

    undertaker.add(dead)
    wait_for(lambda: outage.calls > 1)
    assert not undertaker.is_done
    assert app.broker.stats("celery").held == 1
    outage.is_on = False

    wait_for(lambda: undertaker.is_done)
    assert (app.broker.stats("celery").ready, app.broker.stats("celery").held) == (1, 0)
    wait_for(lambda: told == ["done"])


def test_an_end_waits_for_no_outage(
    broker: Broker, dead: DeadChild, undertaker: Undertaker, fault: Callable[..., Any]
) -> None:
    outage = fault(broker, "held")
    undertaker.add(dead)
    wait_for(lambda: outage.calls)

    undertaker.stop()

    thread = undertaker._thread
    assert thread is not None
    thread.join(30)
    assert (thread.is_alive(), undertaker.is_done) == (False, False)
