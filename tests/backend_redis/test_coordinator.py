"""The coordinator on Redis: expiry, tokens, rates and scans, beyond what its contract shows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import wait_for

from umbel.clock import SYSTEM_CLOCK, SystemClock
from umbel.errors import BackendError, BackendUnavailableError, ConfigError
from umbel_backend_redis.coordinator import RedisCoordinator
from umbel_redis_client import Connection


@pytest.fixture
def make(redis_server):
    """Return a function that makes handles on a server, and close them in the end."""
    made = []

    def make(url=None, clock=SYSTEM_CLOCK, **options):
        made.append(RedisCoordinator(url or redis_server.url, options=options, clock=clock))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


@pytest.fixture
def coordinator(make):
    return make()


def only_key(server, pattern):
    (key,) = server.run("KEYS", pattern)
    return key


# -- tokens ---------------------------------------------------------------------------------------


def test_token_grows_though_the_server_has_lost_everything(coordinator, redis_server):
    before = coordinator.acquire("leader", "a", ttl_s=60.0)
    redis_server.flush()

    assert coordinator.acquire("leader", "b", ttl_s=60.0) > before


def test_token_grows_though_the_servers_clock_was_set_back(coordinator, redis_server):
    coordinator.acquire("leader", "a", ttl_s=60.0)
    far = int(time.time() * 1e6) + 10**12  # days ahead
    redis_server.run("SET", only_key(redis_server, "*tokens"), far)
    redis_server.run("DEL", only_key(redis_server, "*lease:leader"))

    assert coordinator.acquire("leader", "b", ttl_s=60.0) == far + 1


def test_leases_that_are_over_leave_a_bounded_number_of_counters(coordinator, redis_server):
    for number in range(400):
        coordinator.acquire(f"lease {number}", "a", ttl_s=0.001)
    wait_for(lambda: not redis_server.run("KEYS", "*lease:*"))

    assert 0 < len(redis_server.run("KEYS", "*")) <= 256


def test_holder_may_have_any_name(coordinator):
    token = coordinator.acquire("leader", "a:b\n\ud800", ttl_s=60.0)

    assert coordinator.acquire("leader", "b\n\ud800", ttl_s=60.0) is None
    assert coordinator.release("leader", "a:b\n\ud800", token)


# -- values ---------------------------------------------------------------------------------------


def test_redis_itself_drops_what_expires(coordinator, redis_server):
    coordinator.put("short", b"", ttl_s=0.01)
    coordinator.put("none", b"", ttl_s=0.0)
    coordinator.increment("counter", ttl_s=0.01)
    coordinator.take("rate", limit=100, period_s=1.0)

    wait_for(lambda: redis_server.run("DBSIZE") == 0)


def test_increment_without_a_ttl_leaves_the_counters_time_as_it_was(coordinator, redis_server):
    coordinator.increment("counter", ttl_s=3600.0)
    coordinator.increment("counter")

    assert 3_590_000 < redis_server.run("PTTL", only_key(redis_server, "*counter")) <= 3_600_000


def test_counter_is_exact_to_64_bits_and_refuses_more(coordinator):
    most = 2**63 - 1
    assert coordinator.increment("counter", most - 1, ttl_s=60.0) == most - 1
    assert coordinator.increment("counter", ttl_s=60.0) == most

    with pytest.raises(BackendError, match="overflow"):
        coordinator.increment("counter")


def test_value_that_is_no_number_is_not_counted(coordinator):
    coordinator.put("text", b"text")

    for ttl_s in (None, 60.0):
        with pytest.raises(BackendError, match="not an integer"):
            coordinator.increment("text", ttl_s=ttl_s)
    assert coordinator.get(["text"]) == {"text": b"text"}


def test_keys_may_hold_any_characters(coordinator):
    keys = ["", " ", "{a}", "}{", "new\nline", "\0", "emoji \U0001f600", "half \ud800", "*?[x]\\"]
    for key in keys:
        coordinator.put(key, key.encode(errors="surrogatepass"))

    expected = {key: key.encode(errors="surrogatepass") for key in keys}
    assert coordinator.get(keys) == expected
    assert coordinator.scan("") == expected
    assert coordinator.delete(keys) == len(keys)


def test_scan_finds_everything_among_many_keys_of_others(coordinator, redis_server):
    with redis_server.client() as client:
        client.mset({f"foreign {number}": "" for number in range(3000)})
    expected = {f"scan/{number:04}": str(number).encode() for number in range(2500)}
    with redis_server.client() as client:
        root = "umbel:coordinator:value:"
        client.mset({root + key: value for key, value in expected.items()})

    found = coordinator.scan("scan/")
    assert found == expected
    assert list(found) == sorted(expected)


@pytest.mark.parametrize("prefix", ["app:", "a*c:", "[a]?\\"])
def test_prefix_keeps_applications_apart(make, redis_server, prefix):
    one, other, bare = make(global_keyprefix=prefix), make(global_keyprefix="abc:"), make()
    one.put("key", b"one")
    one.acquire("lease", "a", ttl_s=60.0)
    one.take("rate", limit=1, period_s=60.0)

    assert all(key.startswith(prefix.encode()) for key in redis_server.run("KEYS", "*"))
    assert one.scan("") == {"key": b"one"}
    assert other.scan("") == bare.scan("") == {}
    assert other.acquire("lease", "b", ttl_s=60.0) is not None


# -- rates ----------------------------------------------------------------------------------------


class OtherClock(SystemClock):
    """The clock of a machine that is an hour ahead."""

    @staticmethod
    def time():
        return time.time() + 3600.0


def test_rate_is_the_same_for_nodes_whose_clocks_differ(make):
    right, ahead = make(), make(clock=OtherClock())
    assert right.take("rate", limit=2, period_s=1000.0) == 0.0
    assert ahead.take("rate", limit=2, period_s=1000.0) == 0.0

    waits = [node.take("rate", limit=2, period_s=1000.0) for node in (right, ahead)]
    assert all(499.0 < wait_s <= 500.0 for wait_s in waits)


def test_rate_that_was_made_faster_is_free_after_its_new_period(coordinator):
    coordinator.take("rate", limit=1, period_s=100_000.0)

    assert 9.0 < coordinator.take("rate", limit=1, period_s=10.0) <= 10.0


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"period_s": 0.0}, {"cost": 3}, {"cost": -1}], ids=str
)
def test_units_that_could_never_be_taken_are_refused(coordinator, wrong):
    with pytest.raises(ValueError, match="can't be taken"):
        coordinator.take("rate", **{"limit": 2, "period_s": 1.0, "cost": 1, **wrong})


# -- the way to Redis -----------------------------------------------------------------------------


def test_each_operation_is_one_round_trip(coordinator, monkeypatch):
    """So nobody gets in between, either: each is one command or one script."""
    for name in ("a", "b"):  # the second time, the connection and the scripts are there
        sent = sent_by(monkeypatch)
        coordinator.put(name, b"", ttl_s=60.0)
        coordinator.put_if_absent(name, b"")
        coordinator.increment("counter", ttl_s=60.0)
        token = coordinator.acquire(name, "holder", ttl_s=60.0)
        coordinator.release(name, "holder", token)
        coordinator.take(name, limit=1, period_s=1.0)
        coordinator.publish(name, b"")
        coordinator.get(["a", "b", "counter"])
        coordinator.delete(["a", "b"])

    assert len(sent) == 9


def sent_by(monkeypatch):
    """Return a list to which everything is added that connections send from now on."""
    sent, send = [], Connection.send
    monkeypatch.setattr(
        Connection, "send", lambda self, data: (sent.append(data), send(self, data))
    )
    return sent


def test_handle_opens_nothing_before_its_first_use():
    RedisCoordinator("redis://127.0.0.1:1/0", options={}, clock=SYSTEM_CLOCK).close()


def test_options_of_broker_and_backend_are_their_own_business(make):
    make(priority_order="celery", visibility_timeout=10, whatever=1).put("key", b"")


def test_unknown_parameter_of_the_url_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'socket_timeout'"):
        RedisCoordinator("redis://h/0?socket_timeot=1", options={}, clock=SYSTEM_CLOCK)


def test_wrong_password_is_a_refusal_and_not_told(make, redis_password):
    coordinator = make(redis_password.wrong_url)

    for call in (lambda: coordinator.get(["key"]), lambda: coordinator.subscribe(["channel"])):
        with pytest.raises(BackendError, match="WRONGPASS") as caught:
            call()
        assert not isinstance(caught.value, BackendUnavailableError)
        assert "wr0ng" not in str(caught.value)


def test_nobody_there_is_unavailable(make):
    coordinator = make("redis://127.0.0.1:1/0")

    calls = [
        lambda: coordinator.get(["key"]),
        lambda: coordinator.put("key", b""),
        lambda: coordinator.scan(""),
        lambda: coordinator.acquire("lease", "a", ttl_s=1.0),
        lambda: coordinator.take("rate", limit=1, period_s=1.0),
        lambda: coordinator.publish("channel", b""),
        lambda: coordinator.subscribe(["channel"]),
    ]
    for call in calls:
        with pytest.raises(BackendUnavailableError, match="can't be reached"):
            call()


def test_closed_handle_can_be_used_again(coordinator):
    coordinator.put("key", b"value")
    coordinator.close()

    assert coordinator.get(["key"]) == {"key": b"value"}


FORKING = """
import os, sys
from umbel.clock import SYSTEM_CLOCK
from umbel_backend_redis.coordinator import RedisCoordinator

coordinator = RedisCoordinator(sys.argv[1], options={}, clock=SYSTEM_CLOCK)
subscription = coordinator.subscribe(["channel"])
coordinator.put("key", b"parent")
child = os.fork()
if child == 0:
    try:
        assert coordinator.get(["key"]) == {"key": b"parent"}
        subscription.poll(timeout_s=0.0)  # from here on
        own = coordinator.subscribe(["own"])
        coordinator.publish("channel", b"from the child")
        assert list(subscription.poll(timeout_s=30.0)) == [("channel", b"from the child")]
        coordinator.publish("own", b"")
        assert list(own.poll(timeout_s=30.0)) == [("own", b"")]
        subscription.close()
        coordinator.close()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
assert list(subscription.poll(timeout_s=30.0)) == [("channel", b"from the child")]
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
coordinator.publish("channel", b"still")
assert list(subscription.poll(timeout_s=30.0)) == [("channel", b"still")]
coordinator.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_has_connections_of_its_own(redis_server, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, redis_server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
