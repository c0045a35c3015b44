"""Subscriptions on Redis: one connection for all of a handle, which comes back by itself."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from project import wait_for
from scripted_server import ScriptedServer
from tcp_proxy import TcpProxy

from umbel.clock import SYSTEM_CLOCK
from umbel.errors import BackendError, BackendUnavailableError
from umbel_backend_redis import inbox, subscribed_connection
from umbel_backend_redis.coordinator import RedisCoordinator
from umbel_testing.kit import Running

#: Where something should come, and does at once.
PATIENCE_S = 30.0


@pytest.fixture
def make(redis_server):
    """Return a function that makes handles on a server, and close them in the end."""
    made = []

    def make(url=None, **options):
        made.append(RedisCoordinator(url or redis_server.url, options=options, clock=SYSTEM_CLOCK))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


@pytest.fixture
def impatient(monkeypatch):
    """Notice silence soon."""
    monkeypatch.setattr(subscribed_connection, "ASK_AFTER_S", 0.15)
    monkeypatch.setattr(subscribed_connection, "ANSWER_WITHIN_S", 0.3)


def listening(server):
    """Return the clients that are subscribed to something."""
    with server.client() as client:
        return client.client_list(_type="pubsub")


def channels(server):
    return server.run("PUBSUB", "CHANNELS")


def hears_again(subscription, publisher, within_s=5.0):
    """Tell whether what is published gets through, within so many seconds."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        try:
            publisher.publish("channel", b"again")
            if list(subscription.poll(timeout_s=0.05)):
                return True
        except BackendUnavailableError:
            time.sleep(0.01)
    return False


# -- one connection -------------------------------------------------------------------------------


def test_all_subscriptions_of_a_handle_share_one_connection(make, redis_server):
    coordinator = make()
    subscriptions = [coordinator.subscribe([f"channel {n}", "all"]) for n in range(5)]
    assert len(listening(redis_server)) == 1

    make().publish("all", b"payload")
    for subscription in subscriptions:
        assert list(subscription.poll(timeout_s=PATIENCE_S)) == [("all", b"payload")]


def test_channel_that_nobody_wants_any_more_is_left_and_then_the_connection(make, redis_server):
    coordinator = make()
    first, second = coordinator.subscribe(["a", "b"]), coordinator.subscribe(["b", "c"])
    first.close()
    wait_for(lambda: len(channels(redis_server)) == 2)
    coordinator.publish("b", b"payload")
    assert list(second.poll(timeout_s=PATIENCE_S)) == [("b", b"payload")]

    second.close()
    wait_for(lambda: not listening(redis_server))
    assert coordinator.subscribe(["a"])  # and again
    assert len(listening(redis_server)) == 1


def test_subscription_that_was_dropped_without_close_is_left(make, redis_server, impatient):
    coordinator = make()
    subscription = coordinator.subscribe(["a"])
    assert len(channels(redis_server)) == 1

    del subscription
    gc.collect()
    wait_for(lambda: not channels(redis_server))


def test_idle_subscription_costs_a_ping_now_and_then(make, redis_server, monkeypatch):
    monkeypatch.setattr(subscribed_connection, "ASK_AFTER_S", 0.1)
    subscription = make().subscribe(["channel"])
    began_at, before = time.monotonic(), pings(redis_server)
    wait_for(lambda: pings(redis_server) >= before + 3)

    assert pings(redis_server) - before <= (time.monotonic() - began_at) / 0.1 + 1
    assert list(subscription.poll(timeout_s=0.0)) == []


def pings(server):
    return server.info("commandstats")["cmdstat_ping"]["calls"]


def test_subscription_without_channels_hears_nothing(make):
    assert list(make().subscribe([]).poll(timeout_s=0.01)) == []


def test_channels_carry_the_prefix_and_the_database(make, redis_server):
    handles = [
        make(),
        make(global_keyprefix="app:"),
        make(redis_server.url_of(1)),
    ]
    subscriptions = [handle.subscribe(["channel"]) for handle in handles]
    for number, handle in enumerate(handles):
        handle.publish("channel", str(number).encode())

    for number, subscription in enumerate(subscriptions):
        heard = [("channel", str(number).encode())]
        assert list(subscription.poll(timeout_s=PATIENCE_S)) == heard
    assert len(channels(redis_server)) == 3
    assert sum(name.startswith(b"app:") for name in channels(redis_server)) == 1


def test_second_subscription_hears_nothing_that_was_published_before_it(make):
    """Not even what is on its way to the first one."""
    subscribed = []

    def answer(words):
        if words[0] != b"SUBSCRIBE":
            return b"+PONG\r\n"
        subscribed.append(words[1])
        confirmed = wire(b"subscribe", words[1], b"1")
        if len(subscribed) == 1:
            return confirmed
        before, after = (wire(b"message", words[1], each) for each in (b"before", b"after"))
        return before + confirmed + after

    server = ScriptedServer(answer)
    try:
        coordinator = make(f"redis://127.0.0.1:{server.port}")
        first, second = (coordinator.subscribe(["channel"]) for _ in range(2))
        assert list(second.poll(timeout_s=PATIENCE_S)) == [("channel", b"after")]
        heard = list(first.poll(timeout_s=PATIENCE_S))
        assert heard == [("channel", b"before"), ("channel", b"after")]
        coordinator.close()
    finally:
        server.close()


def wire(*words):
    """Return words as Redis sends them."""
    sent = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(sent)


def test_channels_may_have_any_name(make):
    coordinator = make()
    names = ["", " ", "a\nb", "half \ud800", "*"]
    subscription = coordinator.subscribe(names)
    for name in names:
        coordinator.publish(name, b"")

    heard = []
    wait_for(lambda: heard.extend(subscription.poll(timeout_s=0.1)) or len(heard) == len(names))
    assert heard == [(name, b"") for name in names]


# -- polling --------------------------------------------------------------------------------------


def test_interrupt_is_kept_for_the_next_poll_that_waits(make):
    subscription = make().subscribe(["channel"])
    subscription.interrupt()
    assert list(subscription.poll(timeout_s=0.0)) == []

    began_at = time.monotonic()
    assert list(subscription.poll(timeout_s=PATIENCE_S)) == []
    assert time.monotonic() - began_at < PATIENCE_S / 2


@pytest.mark.parametrize("end", ["subscription", "coordinator"])
def test_close_ends_a_waiting_poll(make, end):
    coordinator = make()
    subscription = coordinator.subscribe(["channel"])
    running = Running(lambda: subscription.poll(timeout_s=PATIENCE_S))
    assert running.goes_on()

    (subscription if end == "subscription" else coordinator).close()
    assert list(running.result(PATIENCE_S / 2)) == []


def test_closing_a_handle_ends_its_thread(make):
    coordinator = make()
    coordinator.subscribe(["channel"])
    assert any(each.name == "umbel-subscriptions" for each in threading.enumerate())

    coordinator.close()
    wait_for(lambda: all(each.name != "umbel-subscriptions" for each in threading.enumerate()))


def test_subscriber_that_does_not_poll_misses_the_oldest_and_is_told(make, monkeypatch):
    monkeypatch.setattr(inbox, "MOST_KEPT", 3)
    coordinator = make()
    slow, quick = coordinator.subscribe(["channel"]), coordinator.subscribe(["channel"])
    for number in range(5):
        coordinator.publish("channel", str(number).encode())
        assert list(quick.poll(timeout_s=PATIENCE_S))

    assert [payload for _, payload in slow.poll(timeout_s=0.0)] == [b"2", b"3", b"4"]
    with pytest.raises(BackendUnavailableError, match="weren't polled"):
        slow.poll(timeout_s=0.0)
    assert list(slow.poll(timeout_s=0.0)) == []


# -- outages --------------------------------------------------------------------------------------


def test_lost_connection_is_told_once_and_comes_back(make, redis_server):
    subscription = make().subscribe(["channel"])
    redis_server.restart()

    with pytest.raises(BackendUnavailableError):
        subscription.poll(timeout_s=PATIENCE_S)
    assert hears_again(subscription, make())


def test_what_came_before_the_connection_was_lost_is_heard_first(make, redis_server):
    coordinator = make()
    subscription = coordinator.subscribe(["channel"])
    coordinator.publish("channel", b"before")
    redis_server.run("CLIENT", "KILL", "TYPE", "pubsub")

    assert list(subscription.poll(timeout_s=PATIENCE_S)) == [("channel", b"before")]
    with pytest.raises(BackendUnavailableError):
        subscription.poll(timeout_s=PATIENCE_S)


def test_polls_fail_while_nobody_is_there_and_go_on_afterwards(make, redis_server):
    coordinator = make()
    subscription = coordinator.subscribe(["channel"])
    redis_server.kill()
    for _ in range(3):
        with pytest.raises(BackendUnavailableError):
            subscription.poll(timeout_s=0.1)
    with pytest.raises(BackendUnavailableError):
        coordinator.subscribe(["other"])
    redis_server.start(any_port=False)

    assert hears_again(subscription, coordinator)
    assert coordinator.subscribe(["other"])


def test_connections_that_are_reset_come_back(make, redis_server, redis_proxy):
    coordinator = make(redis_server.url_of(0, redis_proxy.port))
    subscription = coordinator.subscribe(["channel"])
    with redis_proxy.broken(TcpProxy.reset):
        with pytest.raises(BackendUnavailableError):
            subscription.poll(timeout_s=PATIENCE_S)
        with pytest.raises(BackendUnavailableError):
            subscription.poll(timeout_s=0.1)

    assert hears_again(subscription, make())


def test_network_that_swallows_everything_is_noticed(make, redis_server, redis_proxy, impatient):
    url = redis_server.url_of(0, redis_proxy.port)
    coordinator = make(url, socket_connect_timeout=0.3)
    subscription = coordinator.subscribe(["channel"])
    with redis_proxy.broken(TcpProxy.swallow):
        with pytest.raises(BackendUnavailableError, match="no answer in time"):
            subscription.poll(timeout_s=PATIENCE_S)
        with pytest.raises(BackendUnavailableError):
            coordinator.subscribe(["other"])

    assert hears_again(subscription, make())


def test_server_that_was_frozen_is_heard_again(make, redis_server, impatient):
    coordinator = make(socket_connect_timeout=0.3)
    subscription = coordinator.subscribe(["channel"])
    redis_server.pause()
    with pytest.raises(BackendUnavailableError):
        subscription.poll(timeout_s=PATIENCE_S)
    redis_server.resume()

    assert hears_again(subscription, make())


def test_user_who_is_not_let_in_any_more_is_told_so(make, redis_server):
    subscription = make().subscribe(["channel"])
    redis_server.config_set("requirepass", "new")
    try:
        with redis_server.client(password="new") as client:
            client.client_kill_filter(_type="pubsub")
        refusals = []

        def refused():
            try:
                subscription.poll(timeout_s=0.01)
            except BackendUnavailableError:
                return False  # the loss of the connection
            except BackendError as error:
                refusals.append(str(error))
            return bool(refusals)

        wait_for(refused)
        assert "NOAUTH" in refusals[0]
    finally:
        with redis_server.client(password="new") as client:
            client.config_set("requirepass", "")


def test_subscription_follows_a_fail_over(make, redis_sentinel):
    coordinator = make(redis_sentinel.url)
    subscription = coordinator.subscribe(["channel"])
    token = coordinator.acquire("leader", "a", ttl_s=60.0)
    former = redis_sentinel.master
    redis_sentinel.fail_over()
    # What a Sentinel tells a master that it finds beside the new one, in ten seconds or so.
    former.run("REPLICAOF", "127.0.0.1", redis_sentinel.master.port)
    for kind in ("pubsub", "normal"):
        former.run("CLIENT", "KILL", "TYPE", kind)

    assert hears_again(subscription, make(redis_sentinel.url))
    assert coordinator.acquire("other leader", "a", ttl_s=60.0) > token
