from umbel.worker.prefetch import HORIZON_S, MOST, MOST_BYTES, Prefetch


def run(prefetch: Prefetch, each_s: float, batches: int, each_bytes: int = 0) -> int:
    for _ in range(batches):
        count = prefetch.size
        prefetch.observe(count, count * each_s, count * each_bytes)
    return prefetch.size


def test_starts_with_one_since_nothing_is_known() -> None:
    assert Prefetch().size == 1


def test_short_tasks_are_fetched_by_the_hundred() -> None:
    assert run(Prefetch(), each_s=0.00005, batches=6) == MOST


def test_a_batch_is_about_what_the_horizon_holds() -> None:
    assert run(Prefetch(), each_s=0.01, batches=10) == int(HORIZON_S / 0.01)


def test_long_tasks_are_fetched_one_by_one() -> None:
    assert run(Prefetch(), each_s=3.0, batches=3) == 1


def test_one_long_task_among_short_ones_brings_the_size_down_at_once() -> None:
    prefetch = Prefetch()
    run(prefetch, each_s=0.0001, batches=10)

    prefetch.observe(1, 10.0)

    assert prefetch.size == 1


def test_the_size_recovers_after_a_long_task() -> None:
    prefetch = Prefetch()
    prefetch.observe(1, 10.0)

    assert run(prefetch, each_s=0.0001, batches=40) > 50


def test_the_multiplier_caps_the_size() -> None:
    assert run(Prefetch(4, slots=2), each_s=0.0001, batches=10) == 8


def test_large_bodies_bound_the_size() -> None:
    assert run(Prefetch(), each_s=0.0001, batches=20, each_bytes=MOST_BYTES // 4) <= 5


def test_a_batch_that_is_small_since_there_was_no_more_leaves_the_size() -> None:
    prefetch = Prefetch()
    run(prefetch, each_s=0.0001, batches=10)

    prefetch.observe(1, 0.0004)  # alone, and so with cold caches

    assert prefetch.size > 100
