"""A client of the one kind calls a worker of the other kind, and reads its results."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from uuid import UUID

import pytest
from interop_fleet import RemoteError
from project import wait_for

from umbel.errors import RemoteTaskError, ResultTimeoutError, TaskRevokedError

PATIENCE_S = 30


@pytest.fixture
def send(fleet):
    """Send a task from the umbel client to the Celery worker."""

    def send(name, *args, **options):
        return fleet.app.send_task(f"tasks.{name}", args, **{"queue": "celery", **options})

    return send


def get(result):
    return result.get(timeout=PATIENCE_S)


# -- from Celery's client to umbel's worker -------------------------------------------------------


def test_celery_client_gets_the_result_of_an_umbel_worker(celery):
    found = celery("""
        result = tasks.add.apply_async((2, 3), queue="umbel")
        [result.get(timeout=30), result.state, result.traceback, tasks.who.apply_async(queue="umbel").get(timeout=30)]
    """)

    assert found == [5, "SUCCESS", None, "umbel"]


def test_celery_client_that_waits_is_woken(celery):
    waited_s = celery("""
        from time import monotonic
        result = tasks.work.apply_async(("woken", 0.5), queue="umbel")
        began = monotonic()
        result.get(timeout=30)
        monotonic() - began
    """)

    assert waited_s < 5


def test_extended_types_go_to_an_umbel_worker_and_back(celery):
    found = celery("""
        values = [datetime.datetime(2026, 11, 22, 11, 57, 28, 262508, datetime.timezone.utc),
                  datetime.datetime(2026, 11, 22), datetime.date(2026, 11, 22),
                  datetime.time(11, 57, 28), decimal.Decimal("1.10"), uuid.UUID(int=7), b"\\x00\\xff"]
        kinds = tasks.kinds.apply_async(values, queue="umbel").get(timeout=30)
        [kinds, tasks.same.apply_async(values, queue="umbel").get(timeout=30) == values]
    """)

    assert found == [["datetime", "datetime", "date", "time", "Decimal", "UUID", "bytes"], True]


def test_compressed_arguments_are_read(celery):
    assert celery("""
        calls = [tasks.add.apply_async((2, 3), queue="umbel", compression=each)
                 for each in ("gzip", "bzip2", "zlib")]
        [call.get(timeout=30) for call in calls]
    """) == [5, 5, 5]


def test_celery_client_gets_the_errors_of_an_umbel_worker(celery):
    found = celery("""
        def outcome(result):
            try:
                return result.get(timeout=30)
            except Exception as exc:
                return [type(exc).__module__, type(exc).__name__, list(exc.args)]
        results = [tasks.fail.apply_async(("bad", 7), queue="umbel"),
                   tasks.fail_in_its_way.apply_async(("ours",), queue="umbel"),
                   tasks.linger.apply_async(queue="umbel")]
        outcomes = [outcome(each) for each in results]
        [outcomes, results[0].state, results[0].traceback]
    """)

    assert found[0][:2] == [
        ["builtins", "ValueError", ["bad", 7]],
        ["tasks", "ProjectError", ["ours"]],
    ]
    assert found[0][2][:2] == ["billiard.exceptions", "SoftTimeLimitExceeded"]
    assert found[1] == "FAILURE"
    assert "in fail\n    raise ValueError(*args)\nValueError: ('bad', 7)" in found[2]


def test_results_that_nobody_wants_are_not_stored(celery, fleet):
    found = celery("""
        silent = tasks.silent.apply_async(("hush",), queue="umbel")
        asked = tasks.add.apply_async((1,), queue="umbel", ignore_result=True)
        tasks.work.apply_async(("after-silence",), queue="umbel").get(timeout=30)
        [silent.id, asked.id, asked.get(timeout=1)]
    """)

    wait_for(lambda: fleet.ledger()["hush"], PATIENCE_S)
    with fleet.server.client() as client:
        assert [client.get(f"celery-task-meta-{task_id}") for task_id in found[:2]] == [None, None]


def test_retries_asked_for_by_celerys_client_are_made(celery, fleet):
    found = celery("""
        result = tasks.flaky.apply_async(("flaky-1", 2), queue="umbel")
        [result.get(timeout=30), result.state]
    """)

    assert found == [2, "SUCCESS"]
    assert fleet.ledger()["flaky-1"] == 3


def test_eta_of_celerys_client_is_kept_by_the_broker(celery, fleet):
    celery("""
        eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1.5)
        result = tasks.work.apply_async(("eta-1",), queue="umbel", eta=eta)
        later = tasks.work.apply_async(("eta-2",), queue="umbel", countdown=3600)
        0
    """)

    wait_for(lambda: fleet.app.broker.stats("umbel").delayed == 2, PATIENCE_S)
    assert fleet.app.broker.stats("umbel").held == 0
    began, due_at = celery("result.get(timeout=30); [time.time(), eta.timestamp()]")
    [noted_at] = [float(line[2]) for line in fleet.lines() if line[0] == "eta-1"]
    assert due_at <= noted_at <= began
    [delayed] = fleet.app.broker.delayed("umbel")
    fleet.app.broker.promote([delayed.receipt])
    assert celery("later.get(timeout=30)") == "eta-2"


def test_task_that_celerys_client_lets_expire_does_not_run(celery, fleet):
    found = celery("""
        past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=5)
        result = tasks.work.apply_async(("expired-1",), queue="umbel", expires=past)
        try:
            answer = result.get(timeout=30)
        except celery.exceptions.TaskRevokedError as exc:
            answer = str(exc)
        [answer, result.state]
    """)

    assert found == ["expired", "REVOKED"]
    assert fleet.ledger()["expired-1"] == 0


def test_context_of_a_task_is_what_celerys_client_said(celery):
    assert celery("""
        result = tasks.context.apply_async(queue="umbel", headers={"my": "header"})
        result.get(timeout=30) == [result.id, result.id, None, None, 0]
    """)


def test_unknown_task_is_told_to_celerys_client(celery, fleet):
    with pytest.raises(RemoteError) as caught:
        celery("""
            app.send_task("tasks.unknown", queue="umbel", task_id="unknown-1").get(timeout=0.5)
        """)

    assert caught.value.args[0] == "TimeoutError"  # held for workers that may know it


# -- from umbel's client to Celery's worker -------------------------------------------------------


def test_umbel_client_gets_the_result_of_a_celery_worker(send):
    assert get(send("add", 2, 3)) == 5
    assert get(send("who")) == "celery"


def test_umbel_client_that_waits_is_woken(send):
    began = time.monotonic()

    assert get(send("work", "woken-too", 0.5)) == "woken-too"
    assert time.monotonic() - began < 5


def test_extended_types_go_to_a_celery_worker_and_back(send):
    values = [
        datetime(2026, 11, 22, 11, 57, 28, 262508, UTC),
        datetime(2026, 11, 22),  # noqa: DTZ001 - without a zone on purpose
        date(2026, 11, 22),
        clock_time(11, 57, 28),
        Decimal("1.10"),
        UUID(int=7),
        b"\x00\xff",
    ]

    assert get(send("kinds", *values)) == [type(each).__name__ for each in values]
    assert get(send("same", *values)) == values


def test_umbel_client_gets_the_errors_of_a_celery_worker(send):
    failed = send("fail", "bad", 7)
    with pytest.raises(ValueError, match="bad") as caught:
        get(failed)
    assert caught.value.args == ("bad", 7)
    assert "in fail" in failed.traceback
    with pytest.raises(RemoteTaskError) as caught:
        get(send("fail_in_its_way", "ours"))
    assert (caught.value.exc_type, caught.value.exc_args) == ("ProjectError", ("ours",))


def test_retries_by_a_celery_worker_are_waited_for(send, fleet):
    assert get(send("flaky", "flaky-2", 2)) == 2
    assert fleet.ledger()["flaky-2"] == 3


def test_eta_of_umbels_client_is_kept_where_an_umbel_worker_is_beside(send, fleet):
    began = time.time()
    results = [send("work", f"eta-3-{n}", countdown=1, queue="shared") for n in range(6)]
    assert [get(each) for each in results] == [f"eta-3-{n}" for n in range(6)]

    noted_at = [float(line[2]) for line in fleet.lines() if line[0].startswith("eta-3")]
    assert len(noted_at) == 6
    assert min(noted_at) >= began + 1


def test_task_that_umbels_client_lets_expire_does_not_run(send, fleet):
    expired = send("work", "expired-2", expires=datetime.now(UTC) - timedelta(seconds=5))
    with pytest.raises(TaskRevokedError, match="expired"):
        get(expired)

    assert fleet.ledger()["expired-2"] == 0


def test_results_of_a_celery_worker_that_nobody_wants_are_not_stored(send, fleet):
    ignored = send("add", 1, ignore_result=True)
    get(send("add", 1))

    with fleet.server.client() as client:
        assert client.get(f"celery-task-meta-{ignored.id}") is None


def test_wait_for_a_task_that_no_one_runs_ends(send):
    with pytest.raises(ResultTimeoutError):
        send("add", 1, queue="nobody").get(timeout=0.2)
