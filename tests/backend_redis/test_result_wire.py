"""Results stand where Celery's clients look for them, and are told as Celery tells them."""

from __future__ import annotations

import pickle

import pytest
from result_documents import CELERY, document, final

from umbel.ids import new_id
from umbel.outcomes import StoredResult
from umbel_backend_redis.storing import ttl_ms


def key_of(task_id):
    return f"celery-task-meta-{task_id}"


@pytest.fixture
def heard(server):
    """Return what was told on the channels of results since the test began."""
    pubsub = server.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("*celery-task-meta-*")
    pubsub.get_message(timeout=5)

    def take(count):
        messages = (pubsub.get_message(timeout=5) for _ in range(count))
        return [(each["channel"].decode(), each["data"]) for each in messages]

    yield take
    pubsub.close()


def test_first_final_result_is_its_document_and_nothing_else(backend, server):
    one = final(ttl_s=86400.0)
    backend.store([one])

    assert server.keys() == [key_of(one.task_id).encode()]
    assert server.get(key_of(one.task_id)) == one.body


def test_result_is_kept_as_long_as_it_says(backend, server):
    day, hour, ever = (final(ttl_s=ttl_s) for ttl_s in (86400.0, 3600.0, None))
    backend.store([day, hour, ever])

    assert 86340 < server.ttl(key_of(day.task_id)) <= 86400
    assert 3540 < server.ttl(key_of(hour.task_id)) <= 3600
    assert server.ttl(key_of(ever.task_id)) == -1


def test_redis_is_told_milliseconds():
    assert [ttl_ms(ttl_s) for ttl_s in (1.5, 0.0, None)] == [1500, 1, ""]


def test_unready_and_later_results_are_kept_as_long_as_they_say(backend, server):
    started, retried = final(state="STARTED", ttl_s=60.0), final(retries=2, ttl_s=60.0)
    backend.store([started, retried])

    assert [0 < server.ttl(key_of(one.task_id)) <= 60 for one in (started, retried)] == [True] * 2


def test_result_is_told_on_the_channel_of_its_name(backend, heard):
    first, started, later = final(), final(state="STARTED"), final(retries=1)
    backend.store([first, started, later])
    told = dict(heard(3))

    assert told[key_of(first.task_id)] == first.body
    assert told[key_of(started.task_id)] == started.body
    assert told[key_of(later.task_id)].startswith(later.body[:-1])


def test_refused_result_is_not_told(backend, heard):
    standing, last = final(token=2), final()
    backend.store([standing])
    backend.store([final(standing.task_id)])
    backend.store([last])

    assert [channel for channel, _ in heard(2)] == [key_of(standing.task_id), key_of(last.task_id)]


def test_rank_of_a_later_delivery_stands_at_the_end_of_the_document(backend, server):
    one = final(token=3, retries=2)
    backend.store([one])

    assert server.get(key_of(one.task_id)) == one.body[:-1] + b',"umbel_rank":[2,3]}'
    assert backend.load([one.task_id]) == {one.task_id: one}


def test_body_that_is_no_document_has_its_state_and_rank_beside_it(backend, server):
    task_id = new_id()
    body = pickle.dumps({"status": "FAILURE", "result": {1, 2}})
    one = StoredResult(task_id=task_id, state="FAILURE", body=body, token=2, ttl_s=60.0)
    backend.store([one])
    beside = f"umbel:{{{key_of(task_id)}}}:rank"

    assert server.get(key_of(task_id)) == body
    assert server.get(beside) == b"0 2 FAILURE"
    assert 0 < server.ttl(beside) <= 60
    backend.forget([task_id])
    assert server.keys() == []


def test_document_in_the_place_of_another_body_leaves_nothing_beside_it(backend, server):
    task_id = new_id()
    backend.store([StoredResult(task_id=task_id, state="STARTED", body=b"\x80")])
    backend.store([final(task_id)])

    assert server.keys() == [key_of(task_id).encode()]


def test_result_that_celery_wrote_is_read(backend, server):
    task_id = new_id()
    body = document(task_id, "FAILURE", b'{"exc_type": "ValueError"}', form=CELERY)
    server.set(key_of(task_id), body, ex=60)

    assert backend.load([task_id]) == {
        task_id: StoredResult(task_id=task_id, state="FAILURE", body=body)
    }


def test_result_that_celery_pickled_is_read_in_its_state(backend, server):
    task_id, other_id = new_id(), new_id()
    body = pickle.dumps({"status": "REVOKED", "result": None, "task_id": task_id})
    server.set(key_of(task_id), body)
    server.set(key_of(other_id), b"\x00")
    found = backend.load([task_id, other_id])

    assert (found[task_id].state, found[task_id].body) == ("REVOKED", body)
    assert found[other_id].state == "PENDING"  # unknown, so nobody stops waiting for it


def test_result_that_celery_wrote_gives_way_to_a_later_one(backend, server):
    task_id = new_id()
    server.set(key_of(task_id), document(task_id, "RETRY", form=CELERY))
    assert list(backend.store([final(task_id)])) == []

    server.set(key_of(task_id), document(task_id, form=CELERY))
    assert list(backend.store([final(task_id, state="STARTED")])) == [task_id]
    assert list(backend.store([final(task_id, state="STARTED", token=2)])) == []


@pytest.mark.parametrize(
    "given, used", [("shop", "shop_"), ("shop:", "shop:"), ("shop.", "shop."), ("", "")]
)
def test_prefix_is_set_apart_as_celery_does(redis_server, open_backend, server, given, used):
    backend = open_backend(redis_server.url, global_keyprefix=given)
    one = final()
    backend.store([one])

    assert server.keys() == [f"{used}celery-task-meta-{one.task_id}".encode()]
    assert backend.wait([one.task_id], timeout_s=5.0).keys() == {one.task_id}


def test_other_databases_have_other_results(redis_server, open_backend):
    one = final()
    open_backend(redis_server.url_of(3)).store([one])

    assert open_backend(redis_server.url).load([one.task_id]) == {}
    assert open_backend(redis_server.url_of(3)).load([one.task_id]).keys() == {one.task_id}


def test_megabytes_in_one_batch_are_stored(backend):
    results = [final(result=b'"%b"' % (b"x" * 400_000)) for _ in range(12)]
    backend.store([*results, final(token=2, result=b'"%b"' % (b"x" * 2_000_000))])

    assert backend.load([one.task_id for one in results]) == {one.task_id: one for one in results}


def test_batch_is_one_command(backend, server):
    backend.store([final(ttl_s=60.0)])
    server.config_resetstat()
    backend.store([final(ttl_s=60.0) for _ in range(400)])
    stats = server.info("commandstats")

    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert stats["cmdstat_set"]["calls"] == stats["cmdstat_publish"]["calls"] == 400


@pytest.mark.parametrize("prefix", ["", "{app}:"])
def test_what_stands_beside_a_result_is_in_its_slot(redis_cluster, open_backend, prefix):
    backend = open_backend(redis_cluster.url, global_keyprefix=prefix)
    for task_id in (new_id(), f"of-{{{new_id()}}}", "{" + new_id()):
        started = StoredResult(task_id=task_id, state="STARTED", body=b"\x80")
        done = StoredResult(task_id=task_id, state="SUCCESS", body=b"\x81", token=2)

        assert list(backend.store([started, done])) == []
        assert list(backend.store([final(task_id)])) == [task_id]
        assert dict(backend.load([task_id])) == {task_id: done}


def test_id_that_allows_no_key_beside_its_result_is_stored_in_a_cluster(
    redis_cluster, open_backend
):
    backend, task_id = open_backend(redis_cluster.url), new_id() + "}"
    for token in (1, 2, 3):
        assert list(backend.store([final(task_id, token=token)])) == []

    assert list(backend.store([final(task_id, token=2)])) == [task_id]
