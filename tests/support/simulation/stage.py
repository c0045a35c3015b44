"""What is the same for all seeds: the app, its tasks, its clock and ids, set back for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel import Umbel
from umbel_testing.clock import FakeClock

if TYPE_CHECKING:
    from simulation.world import World

START = 1_900_000_000.0
LEASE_S = 15.0
MAX_DELIVERIES = 3


class Clock(FakeClock):
    """A clock that can be set back."""

    def reset(self) -> None:
        self._time, self._monotonic = START, 1.0


class Ids:
    """Ids in order."""

    def __init__(self):
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"00000000-0000-7000-8000-{self.count:012x}"


class Stage:
    """The world that tasks run in now."""

    world: World


CLOCK, IDS, STAGE = Clock(START), Ids(), Stage()
APP = Umbel(
    "simulation",
    broker="memory://",
    backend="memory://",
    clock=CLOCK,
    ids=IDS,
    worker_lease_s=LEASE_S,
    task_max_deliveries=MAX_DELIVERIES,
    task_once_window_s=86_400.0,
    task_publish_retry_policy={"max_retries": 20, "interval_max": 1.0},
)


@APP.task(bind=True)
def plain(self: Any, n: int) -> list[Any]:
    STAGE.world.run_task(self.request)
    return ["plain", n, self.request.token]


@APP.task(bind=True)
def fail(self: Any, n: int) -> None:
    STAGE.world.run_task(self.request)
    raise ValueError(n)


@APP.task(bind=True, max_retries=5)
def flaky(self: Any, n: int, times: int) -> list[Any]:
    STAGE.world.run_task(self.request)
    if self.request.retries < times:
        raise self.retry(countdown=5 * (self.request.retries + 1))
    return ["flaky", n, self.request.token]


@APP.task(bind=True)
def poison(self: Any, n: int, times: int) -> list[Any]:
    STAGE.world.run_task(self.request, dies_before=times)
    return ["poison", n, self.request.token]


@APP.task(bind=True, acks_late=False)
def early(self: Any, n: int) -> list[Any]:
    STAGE.world.run_task(self.request)
    return ["early", n, self.request.token]


@APP.task(bind=True, ignore_result=True)
def quiet(self: Any, n: int) -> None:
    STAGE.world.run_task(self.request)


@APP.task(bind=True, rate_limit="30/m")
def rated(self: Any, n: int) -> list[Any]:
    STAGE.world.run_task(self.request)
    return ["rated", n, self.request.token]


@APP.task(bind=True)
def follow(self: Any, before: Any, n: int, edge: str) -> list[Any]:
    STAGE.world.run_task(self.request)
    return [edge, n, self.request.token]


APP.finalize()
