"""What a server refuses is told apart by whether it may work later."""

from __future__ import annotations

import pytest
from result_documents import final

from umbel.errors import BackendError, BackendUnavailableError


def is_passing(call):
    with pytest.raises(BackendError) as caught:
        call()
    return isinstance(caught.value, BackendUnavailableError)


def test_full_server_may_take_it_later(redis_server, backend):
    standing, one, ranked = final(), final(), final(token=2)
    backend.store([standing])
    redis_server.config_set("maxmemory", "1")

    assert is_passing(lambda: backend.store([one]))
    assert is_passing(lambda: backend.store([ranked]))
    assert is_passing(backend.check)
    assert backend.load([standing.task_id]).keys() == {standing.task_id}
    redis_server.config_set("maxmemory", "0")
    assert list(backend.store([one, ranked])) == []


def test_replica_may_be_a_master_later(redis_server, backend, server):
    backend.store([final()])
    server.replicaof("127.0.0.1", 1)
    try:
        assert is_passing(lambda: backend.store([final()]))
        assert is_passing(backend.check)
    finally:
        server.replicaof("NO", "ONE")
    assert list(backend.store([final()])) == []


def test_wrong_password_stays_wrong_and_is_not_told(redis_password, open_backend):
    backend = open_backend(redis_password.wrong_url)
    with pytest.raises(BackendError) as caught:
        backend.check()

    assert not isinstance(caught.value, BackendUnavailableError)
    assert "wr0ng" not in str(caught.value)


def test_user_who_may_not_subscribe_is_told_so(redis_password, open_backend):
    redis_password.run("ACL", "SETUSER", "quiet", "on", ">quiet", "~*", "+@all", "resetchannels")
    backend = open_backend(
        redis_password.url.replace(":s3cret%2F%40%3A%25@", "quiet:quiet@"),
    )
    try:
        assert not is_passing(lambda: backend.wait(["some"], timeout_s=10.0))
    finally:
        redis_password.run("ACL", "DELUSER", "quiet")


def test_server_that_forgot_its_scripts_is_given_them_again(backend, server):
    backend.store([final(), final(token=2)])
    server.script_flush()

    assert list(backend.store([final(), final(token=2)])) == []


def test_server_that_is_away_may_come_back(redis_server, open_backend):
    backend, one = open_backend(redis_server.url), final()
    redis_server.kill()

    assert is_passing(lambda: backend.store([one]))
    assert is_passing(lambda: backend.load([one.task_id]))
    assert is_passing(lambda: backend.join_chord([]) or backend.close_chord(["some"]))
    redis_server.start(any_port=False)
    assert list(backend.store([one])) == []
