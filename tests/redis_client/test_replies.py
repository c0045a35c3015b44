"""What a server refuses is told as what it means: later, never, or not for this user."""

from __future__ import annotations

import pytest

from umbel.errors import BrokerError, BrokerUnavailableError
from umbel_redis_client import ConnectionLostError, Failures, ReplyError

FAILURES = Failures(BrokerError, BrokerUnavailableError)
#: What Redis 7 says; and Redis 6 of what failed inside of a script.
PASSING = [
    "BUSY Redis is busy running a script.",
    "CLUSTERDOWN The cluster is down",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "MISCONF Redis is configured to save RDB snapshots",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'. script: 6a, on @user_script:1.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "ERR max number of clients reached",
    "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
    "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write",
]
REFUSED = [
    "ERR unknown command 'X'",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "ERR the text says OOM and LOADING, but means something else",
]
DENIED = [
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM this user has no permissions to run the 'get' command",
]


@pytest.mark.parametrize("text", PASSING)
def test_what_passes_is_unavailable(text):
    error = FAILURES.told(ReplyError(text))

    assert type(error) is BrokerUnavailableError
    assert text in str(error)


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_pass_is_refused(text):
    error = FAILURES.told(ReplyError(text))

    assert type(error) is BrokerError
    assert str(error) == f"Redis refuses: {text}"


@pytest.mark.parametrize("text", DENIED)
def test_user_who_may_not_is_refused(text):
    error = FAILURES.told(ReplyError(text))

    assert type(error) is BrokerError
    assert str(error) == f"Redis doesn't let this user in: {text}"


def test_node_of_a_cluster_says_how_to_write_the_url():
    error = FAILURES.told(ReplyError("MOVED 1 127.0.0.1:7000"))

    assert type(error) is BrokerError
    assert "redis+cluster://" in str(error)


def test_no_answer_is_unavailable():
    error = FAILURES.told(ConnectionLostError("h:1: no answer in time"))

    assert type(error) is BrokerUnavailableError
    assert str(error) == "Redis can't be reached: h:1: no answer in time"
