"""Workers of both kinds beside each other: one queue, one order of priorities, exactly one run."""

from __future__ import annotations

from contextlib import closing

from project import wait_for

from umbel import Umbel

PATIENCE_S = 60
CALLS = 60


def test_both_workers_share_a_queue_and_run_each_task_once(celery, fleet):
    mine = [
        fleet.app.send_task("tasks.work", (f"ours-{n}", 0.01), queue="shared") for n in range(CALLS)
    ]
    theirs = celery(f"""
        results = [tasks.work.apply_async((f"theirs-{{n}}", 0.01), queue="shared")
                   for n in range({CALLS})]
        [result.get(timeout={PATIENCE_S}) for result in results]
    """)

    assert theirs == [f"theirs-{n}" for n in range(CALLS)]
    assert [each.get(timeout=PATIENCE_S) for each in mine] == [f"ours-{n}" for n in range(CALLS)]
    ledger = fleet.ledger()
    assert [ledger[f"{who}-{n}"] for who in ("ours", "theirs") for n in range(CALLS)] == [1] * (
        2 * CALLS
    )
    assert {line[1] for line in fleet.lines()} == {"celery", "umbel"}


def test_retried_task_may_go_on_with_the_other_worker(celery, fleet):
    results = celery("""
        results = [tasks.flaky.apply_async((f"wandering-{n}", 3), queue="shared") for n in range(8)]
        [result.get(timeout=30) for result in results]
    """)

    assert results == [3] * 8
    assert [fleet.ledger()[f"wandering-{n}"] for n in range(8)] == [4] * 8


def test_task_that_an_umbel_worker_gave_back_is_run_by_celerys(fleet):
    with closing(fleet.app.open_broker()) as broker:
        fleet.app.send_task("tasks.work", ("given-back",), queue="later", task_id="given-back")
        [held] = broker.receive(["later"], max_messages=1, wait_s=5)
        broker.nack([held])
    worker = fleet.celery_worker("later")
    try:
        assert fleet.app.AsyncResult("given-back").get(timeout=PATIENCE_S) == "given-back"
    finally:
        worker.close()


def test_priorities_of_a_celery_client_are_read_in_celerys_order(celery, fleet):
    celery("""
        for priority in (9, 0, 5, None):
            tasks.work.apply_async((f"theirs-{priority}",), queue="ordered-1", priority=priority)
        0
    """)

    assert order_of(fleet.app, "ordered-1") == ["theirs-0", "theirs-None", "theirs-5", "theirs-9"]


def test_higher_priorities_of_an_umbel_client_go_first_on_celerys_worker_too(fleet):
    for priority in (0, 9, 5):
        fleet.app.send_task(
            "tasks.work", (f"higher-{priority}",), queue="ordered-2", priority=priority
        )

    worker = fleet.celery_worker("ordered-2")
    try:
        keys = [f"higher-{priority}" for priority in (9, 5, 0)]
        wait_for(lambda: set(keys) <= set(fleet.ledger()), PATIENCE_S, fleet.tell)
        assert [line[0] for line in fleet.lines() if line[0] in keys] == keys
    finally:
        worker.close()


def test_fleet_that_keeps_celerys_order_has_one_order(celery, fleet):
    options = {"priority_order": "celery"}
    with Umbel("tests", broker=fleet.url, broker_transport_options=options, backend=None) as app:
        for priority in (9, 0):
            app.send_task("tasks.work", (f"kept-{priority}",), queue="ordered-3", priority=priority)
        celery("""tasks.work.apply_async(("kept-5",), queue="ordered-3", priority=5).id""")

        with fleet.server.client() as client:
            lanes = ["ordered-3", "ordered-3\x06\x163", "ordered-3\x06\x169"]
            assert [client.llen(lane) for lane in lanes] == [1, 1, 1]
        assert order_of(app, "ordered-3") == ["kept-0", "kept-5", "kept-9"]


def order_of(app, queue):
    """Take all that waits in a queue; return the first arguments of the tasks in that order."""
    found = []
    with closing(app.open_broker()) as broker:
        while taken := broker.receive([queue], max_messages=1, wait_s=0):
            broker.ack(taken)
            found += [each.message.headers["argsrepr"] for each in taken]
    return [each.partition("'")[2].partition("'")[0] for each in found]
