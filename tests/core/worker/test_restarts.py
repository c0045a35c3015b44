from umbel.worker.restarts import Restarts


def test_failed_starts_are_paused_for_longer_each_time_until_there_is_no_hope() -> None:
    restarts, now, pauses = Restarts(), 100.0, []
    while not restarts.are_hopeless:
        restarts.note_start_failure(born_at=now, now=now)
        began = now
        while not restarts.may_start(now):
            now += 0.1
        pauses.append(round(now - began, 1))

    assert len(pauses) == 5
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5 < pauses[-1] < 5


def test_children_that_were_started_together_fail_as_one() -> None:
    restarts = Restarts()
    for _ in range(16):
        restarts.note_start_failure(born_at=100.0, now=101.0)

    assert restarts.start_failures == 1


def test_a_child_that_loads_the_app_gives_hope() -> None:
    restarts = Restarts()
    for now in range(4):
        restarts.note_start_failure(born_at=now, now=now)
    restarts.note_alive()

    assert restarts.start_failures == 0


def test_a_worker_whose_child_has_lived_tries_for_ever_and_every_few_seconds() -> None:
    restarts, now = Restarts(), 100.0
    restarts.note_alive()
    for _ in range(50):
        restarts.note_start_failure(born_at=now, now=now)
        now += 5.0
        assert restarts.may_start(now)

    assert not restarts.are_hopeless


def test_a_child_that_died_at_its_work_is_replaced_at_once() -> None:
    restarts = Restarts()
    restarts.note_death(100.0, done=7)

    assert restarts.may_start(100.0)


def test_children_that_die_at_their_first_task_are_replaced_ever_slower_and_for_ever() -> None:
    restarts, now = Restarts(), 100.0
    for _ in range(1000):
        restarts.note_death(now, done=0)
        assert not restarts.may_start(now)
        now += 5.0
        assert restarts.may_start(now)

    assert not restarts.are_hopeless


def test_children_that_die_of_what_they_run_are_replaced_at_once_however_many() -> None:
    restarts, now = Restarts(), 100.0
    for _ in range(100):
        restarts.note_death(now, done=0, was_running=True)
        now += 0.3
        assert restarts.may_start(now)


def test_a_child_that_ended_in_order_is_a_fresh_start() -> None:
    restarts, now = Restarts(), 100.0
    for _ in range(10):
        restarts.note_death(now, done=0)
    restarts.note_end()
    restarts.note_death(now, done=0)
    assert restarts.may_start(now + 0.1)
