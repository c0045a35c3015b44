import pytest

from umbel.errors import ConfigError
from umbel.interfaces.pool import PoolSpec
from umbel.settings import Settings
from umbel.worker.cpus import cpu_count
from umbel.worker.layout import DEFAULT_SLOTS, Layout, layout_of

PROCESS = PoolSpec(name="process", help="", concurrency_is_processes=True)
SOLO = PoolSpec(name="solo", help="", in_children=False)
THREADS = PoolSpec(name="threads", help="")


@pytest.mark.parametrize(
    "spec, concurrency, processes, expected",
    [
        (PROCESS, 4, None, Layout(4, 1)),
        (PROCESS, None, 3, Layout(3, 1)),
        (PROCESS, None, None, Layout(cpu_count(), 1)),
        (THREADS, 16, None, Layout(1, 16)),
        (THREADS, None, None, Layout(1, DEFAULT_SLOTS)),
        (THREADS, 100, 2, Layout(2, 100)),
        (SOLO, None, None, Layout(0, 1)),
        (SOLO, 1, 1, Layout(0, 1)),
    ],
)
def test_processes_and_slots(
    spec: PoolSpec, concurrency: int | None, processes: int | None, expected: Layout
) -> None:
    assert (
        layout_of(spec, concurrency=concurrency, processes=processes, conf=Settings()) == expected
    )


@pytest.mark.parametrize(
    "spec, concurrency, processes, named",
    [
        (PROCESS, 4, 3, "contradict"),
        (SOLO, 2, None, "one task at a time"),
        (THREADS, 0, None, "--concurrency must be 1 or more"),
        (THREADS, 5, -1, "--processes must be 1 or more"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    spec: PoolSpec, concurrency: int, processes: int | None, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        layout_of(spec, concurrency=concurrency, processes=processes, conf=Settings())


def test_the_settings_say_what_the_options_do_not() -> None:
    conf = Settings(given={"worker_concurrency": 7, "worker_processes": 3})

    assert layout_of(PROCESS, concurrency=None, processes=None, conf=conf) == Layout(7, 1)
    assert layout_of(PROCESS, concurrency=2, processes=None, conf=conf) == Layout(2, 1)
    assert layout_of(THREADS, concurrency=None, processes=None, conf=conf) == Layout(3, 7)
    assert layout_of(THREADS, concurrency=None, processes=2, conf=conf) == Layout(2, 7)
    assert layout_of(SOLO, concurrency=None, processes=None, conf=conf) == Layout(0, 1)
