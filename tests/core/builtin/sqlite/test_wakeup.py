from __future__ import annotations

import socket
import threading
import time
from functools import partial

import pytest

from umbel.builtin.sqlite import wakeup
from umbel.builtin.sqlite.broker import FAILURES
from umbel.builtin.sqlite.store import Store
from umbel.builtin.sqlite.urls import parse_url
from umbel.builtin.sqlite.wakeup import Wakeup

PATIENCE_S = 20.0


@pytest.fixture
def open_wakeup(url):
    opened = []

    def open_it():
        store = Store(parse_url(url), FAILURES)
        opened.append((Wakeup(store), store))
        return opened[-1][0]

    yield open_it
    for made, store in opened:
        made.close()
        store.close()


def ring(by, *topics):
    """Write something that those topics hear of."""
    by.ring(by._store.write(partial(lambda cx: by.listeners(cx, topics))))


class Waiting:
    """A wait in another thread, which finds what `there` holds."""

    def __init__(self, on, *topics, pause_s=None, timeout_s=60.0):
        self.there, self.looks = [], 0
        self._pause_s = pause_s
        self._found = []
        self._thread = threading.Thread(
            target=lambda: self._found.append(on.wait(topics, self._look, timeout_s))
        )
        self._thread.start()

    def _look(self):
        self.looks += 1
        return list(self.there), self._pause_s

    def settle(self):
        """Return once it has looked for the last time before it waits."""
        deadline = time.monotonic() + PATIENCE_S
        while self.looks < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        return self

    def found(self, within_s=PATIENCE_S):
        self._thread.join(within_s)
        assert not self._thread.is_alive()
        return self._found[0]


def test_ring_wakes_who_waits_for_the_topic(open_wakeup):
    waiting = Waiting(open_wakeup(), "a", "b").settle()
    waiting.there.append("something")
    ring(open_wakeup(), "b")

    assert waiting.found() == ["something"]


def test_ring_leaves_other_topics_alone(open_wakeup, query):
    Waiting(open_wakeup(), "a", timeout_s=0.01).found()
    other = open_wakeup()

    assert other._store.write(other.listeners, ["b"]) == []
    assert len(other._store.write(other.listeners, ["a"])) == 1


def test_wait_looks_about_once_a_second_and_not_more(open_wakeup):
    waiting = Waiting(open_wakeup(), "a", timeout_s=2.5)

    assert waiting.found() == []
    assert waiting.looks <= 6


def test_lost_ring_costs_about_a_second(open_wakeup):
    waiting = Waiting(open_wakeup(), "a").settle()
    waiting.there.append("something")

    assert waiting.found() == ["something"]


def test_pause_that_look_asks_for_is_kept(open_wakeup):
    waiting = Waiting(open_wakeup(), "a", pause_s=0.01).settle()
    waiting.there.append("something")

    assert waiting.found() == ["something"]
    assert waiting.looks >= 2


def test_second_wait_needs_no_write(open_wakeup, query):
    on = open_wakeup()
    Waiting(on, "a", timeout_s=0.01).found()
    written = query("PRAGMA data_version")
    Waiting(on, "a", timeout_s=0.01).found()

    assert query("PRAGMA data_version") == written


def test_registration_is_renewed_before_it_ends(open_wakeup, query):
    on = open_wakeup()
    Waiting(on, "a", timeout_s=0.01).found()
    query("UPDATE listeners SET expires_at = 1")
    on._idle[0]._registered["a"] = time.time() + wakeup.RENEWAL_S - 1
    Waiting(on, "a", timeout_s=0.01).found()

    assert query("SELECT expires_at > 1 FROM listeners") == [(1,)]


def test_registrations_of_the_dead_are_pruned(open_wakeup, query):
    Waiting(open_wakeup(), "a", timeout_s=0.01).found()
    query("UPDATE listeners SET expires_at = 1")
    Waiting(open_wakeup(), "b", timeout_s=0.01).found()

    assert query("SELECT topic FROM listeners") == [("b",)]


def test_closed_handle_leaves_no_registration(open_wakeup, query):
    on = open_wakeup()
    Waiting(on, "a", timeout_s=0.01).found()
    on.close()

    assert query("SELECT * FROM listeners") == []


def test_damaged_registration_harms_nobody(open_wakeup, query):
    on = open_wakeup()
    waiting = Waiting(on, "a").settle()
    reach = on._reach
    for port in (0, -1, 70000, "x", b"", 1.5):
        query("INSERT INTO listeners VALUES ('a', ?, ?, 1e12, 'x')", port, reach)
    waiting.there.append("something")
    ring(open_wakeup(), "a")

    assert waiting.found() == ["something"]


def test_listener_that_cannot_be_rung_is_told_and_polls(open_wakeup):
    far = open_wakeup()
    far._reach = "another network"
    on = open_wakeup()
    waiting = Waiting(on, "a").settle()
    ring(far, "a")
    deadline = time.monotonic() + PATIENCE_S
    while not on._waiting[0]._poll_until and time.monotonic() < deadline:
        time.sleep(0.01)  # told at its next look of itself
    waiting.there.append("something")
    far._store.write(lambda cx: None)

    assert waiting.found() == ["something"]
    assert on._idle[0]._poll_until > time.time()


def test_where_sockets_are_forbidden_what_is_written_is_seen(open_wakeup, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("no sockets here")

    monkeypatch.setattr(socket, "socket", refuse)
    on, other = open_wakeup(), open_wakeup()
    waiting = Waiting(on, "a").settle()
    waiting.there.append("something")
    ring(other, "a")

    assert waiting.found() == ["something"]


def test_where_sockets_are_forbidden_a_wait_is_interrupted_too(open_wakeup, monkeypatch):
    monkeypatch.setattr(wakeup, "_reach", lambda: "")
    on = open_wakeup()
    waiting = Waiting(on, "a").settle()
    on.interrupt()

    assert waiting.found() == []


def test_handle_serves_several_waits_at_once(open_wakeup):
    on = open_wakeup()
    first, second = Waiting(on, "a").settle(), Waiting(on, "b").settle()
    second.there.append("for b")
    ring(on, "b")
    assert second.found() == ["for b"]
    first.there.append("for a")
    ring(on, "a")

    assert first.found() == ["for a"]


def test_error_of_a_look_ends_the_wait_and_leaves_the_handle_usable(open_wakeup):
    on = open_wakeup()

    def fail():
        raise LookupError("failed")

    with pytest.raises(LookupError):
        on.wait(["a"], fail, 1.0)
    ring(open_wakeup(), "a")
    assert on.wait(["a"], lambda: (["found"], None), 1.0) == ["found"]
