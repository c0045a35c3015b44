"""Tasks over their time limits among good ones, in every pool: only the hogs are the worse for it.

The ledger is what the tasks' own code wrote: a good task that began twice was run twice, whatever
its result says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from project import Project, descendants, wait_for
from stores import every_store

from umbel.errors import SoftTimeLimitExceeded, TimeLimitExceeded

pytestmark = pytest.mark.faults

EXTRA = """
from umbel.errors import SoftTimeLimitExceeded


@app.task
def spin(key):
    note("begin", key)
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        time.sleep(0.005)


@app.task
def stubborn(key):
    try:
        spin(key)
    except SoftTimeLimitExceeded:
        while True:
            time.sleep(0.005)


@app.task
def deaf(key):
    note("begin", key)
    time.sleep(60)  # in C: no exception from another thread gets in


@app.task
def meet(key, others, folder):
    (Path(folder) / str(key)).touch()
    ends_at = time.monotonic() + 30
    while len(os.listdir(folder)) < others:
        if time.monotonic() > ends_at:
            raise TimeoutError(sorted(os.listdir(folder)))
        time.sleep(0.01)
    return key


from pathlib import Path
"""

#: Name of a task, its options, and what becomes of it.
SOFT = ("tasks.spin", {"soft_time_limit": 0.015}, SoftTimeLimitExceeded)
NAPPING = ("tasks.nap", {"soft_time_limit": 0.015}, SoftTimeLimitExceeded)
HARD = ("tasks.spin", {"time_limit": 0.1}, TimeLimitExceeded)
HARD_NAPPING = ("tasks.nap", {"time_limit": 0.1}, TimeLimitExceeded)
# The soft limit is to find them where they are hard to stop, however busy the machine is.
STUBBORN = ("tasks.stubborn", {"soft_time_limit": 0.1, "time_limit": 0.3}, TimeLimitExceeded)
DEAF = ("tasks.deaf", {"soft_time_limit": 0.1, "time_limit": 0.3}, TimeLimitExceeded)
Hog = tuple[str, dict[str, Any], type[Exception]]


@pytest.fixture
def project(tmp_path: Path, store: Mapping[str, str]) -> Iterator[Project]:
    made = Project(tmp_path / "project", extra=EXTRA, **store)
    yield made
    made.close()


def send_mixed(project: Project, hogs: list[Hog], good: int) -> tuple[list[Any], list[Any]]:
    """Send `hogs` among as many good tasks, in an order that is the same each time."""
    calls: list[tuple[Any, ...]] = []
    for i, (name, options, _) in enumerate(hogs):
        args = (f"hog{i}", 60) if name == "tasks.nap" else (f"hog{i}",)
        calls.append((name, args, {}, options))
    calls += [("tasks.work", (f"good{i}", 0.001)) for i in range(good)]
    order = list(range(len(calls)))
    random.Random(7).shuffle(order)
    sent = dict(zip(order, project.app.send_many(calls[i] for i in order), strict=True))
    return [sent[i] for i in range(len(hogs))], [sent[len(hogs) + i] for i in range(good)]


def assert_only_hogs_suffered(
    project: Project, worker: Any, hogs: list[Hog], good: int, slots: int, slots_each: int = 1
) -> None:
    spoilt, fine = send_mixed(project, hogs, good)

    assert [each.get(timeout=120) for each in fine] == [f"good{i}" for i in range(good)]
    for (_, _, error), each in zip(hogs, spoilt, strict=True):
        assert type(each.get(timeout=60, propagate=False)) is error, worker.tell()
    begun = project.ledger("begin")
    # A hog may have been over its limit before it could say so.
    assert {f"good{i}" for i in range(good)} <= set(begun)
    # What shares a process with a hog that is ended begins again; alone in it, nothing does.
    repeated = sum(begun.values()) - len(begun)
    ended = sum(error is TimeLimitExceeded for _, _, error in hogs)
    assert repeated <= ended * (slots_each - 1)
    assert all(project.ledger("end")[f"good{i}"] >= 1 for i in range(good))
    assert_whole(project, slots)
    below = [worker.process.pid, *descendants(worker.process.pid)]
    assert worker.stop() == 0
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    stats = project.app.broker.stats("celery")
    assert (stats.ready, stats.held) == (0, 0)


def assert_whole(project: Project, slots: int) -> None:
    """Check that the pool runs as many tasks at once as it has slots."""
    folder = project.folder / "meeting"
    folder.mkdir(exist_ok=True)
    met = project.app.send_many(("tasks.meet", (i, slots, str(folder))) for i in range(slots))

    assert [each.get(timeout=60) for each in met] == list(range(slots))


def test_500_tasks_over_their_limit_harm_none_of_500_good_ones(project: Project) -> None:
    worker = project.worker("-c", "2")
    hogs = [SOFT] * 400 + [NAPPING] * 50 + [HARD] * 30 + [HARD_NAPPING] * 10 + [STUBBORN] * 10

    assert_only_hogs_suffered(project, worker, hogs, good=500, slots=2)


@every_store
@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_in_pools_of_many_slots_limits_harm_no_neighbour(project: Project, pool: str) -> None:
    worker = project.worker("--pool", pool, "--processes", "2", "-c", "4")
    hogs = [SOFT] * 60 + [NAPPING] * 60 + [HARD] * 3 + [HARD_NAPPING] * 3
    hogs += [STUBBORN] * 2 + [DEAF] * 2

    assert_only_hogs_suffered(project, worker, hogs, good=130, slots=8, slots_each=4)
