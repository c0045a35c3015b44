"""Part of `BrokerSuite`: queues that hold so many messages and no more."""

from __future__ import annotations

import threading

import pytest

from umbel.errors import QueueFullError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import OnConflict
from umbel_testing.broker_kit import BrokerKit, ids, needs
from umbel_testing.kit import Running
from umbel_testing.samples import message

_SENDERS = 8
_LATER_S = 864_000.0


class BrokerBoundsSuite(BrokerKit):
    """Capability BOUNDED."""

    def bounded(self, **bounds: int) -> Broker:
        """Return a handle, ready to receive, that keeps to `bounds`."""
        broker = self.open()
        broker.configure(once_window_s=600.0, bounds=bounds)
        return broker

    @needs(Capability.BOUNDED)
    def test_queue_takes_what_its_bound_allows_and_no_more(self) -> None:
        queue = self.unique("bounded")
        broker = self.bounded(**{queue: 3})
        messages = [message(queue) for _ in range(3)]
        broker.send(messages[:1])
        broker.send(messages[1:])
        with pytest.raises(QueueFullError, match=rf"(?s){queue}.*\b3\b"):
            broker.send([message(queue)])

        assert ids(self.take(broker, queue, 3)) == [one.id for one in messages]
        self.assert_nothing(broker, queue)

    @needs(Capability.BOUNDED)
    def test_call_that_does_not_fit_stores_nothing(self) -> None:
        queue, other = self.unique("bounded"), self.unique("other")
        broker = self.bounded(**{queue: 2})
        with pytest.raises(QueueFullError):
            broker.send([message(other), *(message(queue) for _ in range(3))])

        self.assert_nothing(broker, queue, other)

    @needs(Capability.BOUNDED)
    def test_bound_of_one_queue_is_no_other_queues(self) -> None:
        queue, other = self.unique("bounded"), self.unique("other")
        broker = self.bounded(**{queue: 1})
        broker.send([message(queue), *(message(other) for _ in range(3))])
        broker.send([message(other)])

        self.take(broker, other, 4)

    @needs(Capability.BOUNDED, Capability.DELAY)
    def test_delayed_messages_count(self) -> None:
        queue = self.unique("bounded")
        broker = self.bounded(**{queue: 2})
        broker.send([message(queue, due_at=self.now() + _LATER_S), message(queue)])

        for due_at in (None, self.now() + _LATER_S):
            with pytest.raises(QueueFullError):
                broker.send([message(queue, due_at=due_at)])

    @needs(Capability.BOUNDED)
    def test_held_messages_leave_room(self) -> None:
        queue = self.unique("bounded")
        broker = self.bounded(**{queue: 2})
        broker.send([message(queue), message(queue)])
        self.take(broker, queue, 1)
        broker.send([message(queue)])

        with pytest.raises(QueueFullError):
            broker.send([message(queue)])

    @needs(Capability.BOUNDED)
    def test_what_is_given_back_goes_beyond_the_bound(self) -> None:
        queue = self.unique("bounded")
        broker = self.bounded(**{queue: 1})
        broker.send([message(queue)])
        held = self.take(broker, queue, 1)
        broker.send([message(queue)])
        broker.nack(held)

        self.take(broker, queue, 2)

    @needs(Capability.BOUNDED)
    def test_follow_ups_go_beyond_the_bound(self) -> None:
        queue, first = self.unique("bounded"), self.unique("first")
        broker = self.bounded(**{queue: 1})
        broker.send([message(queue), message(first)])
        broker.settle(self.take(broker, first, 1), [message(queue), message(queue)])

        self.take(broker, queue, 3)

    @needs(Capability.BOUNDED, Capability.UNIQUE)
    def test_send_once_keeps_to_the_bound(self) -> None:
        queue, other = self.unique("bounded"), self.unique("other")
        broker = self.bounded(**{queue: 1})
        known, refused, beside = message(queue), message(queue), message(other)
        broker.send_once([known])
        with pytest.raises(QueueFullError):
            broker.send_once([beside, refused])

        self.assert_nothing(broker, other)
        self.take(broker, queue, 1)
        assert list(broker.send_once([refused], on_conflict=OnConflict.RAISE)) == []

    @needs(Capability.BOUNDED, Capability.UNIQUE)
    def test_known_messages_need_no_room(self) -> None:
        queue = self.unique("bounded")
        broker = self.bounded(**{queue: 1})
        known = message(queue)
        broker.send_once([known])

        assert list(broker.send_once([known])) == [known.id]
        assert list(broker.send_once([known], on_conflict=OnConflict.REPLACE)) == [known.id]
        assert ids(self.take(broker, queue, 1)) == [known.id]

    @needs(Capability.BOUNDED)
    def test_concurrent_senders_do_not_go_beyond_the_bound(self) -> None:
        queue = self.unique("bounded")
        handles = [self.bounded(**{queue: 10}) for _ in range(_SENDERS)]
        begin = threading.Barrier(_SENDERS)
        runs = [Running(lambda h=handle: _accepted(h, queue, begin)) for handle in handles]  # type: ignore[misc]

        assert sum(run.result(self.patience_s) for run in runs) == 10
        self.take(handles[0], queue, 10)
        self.assert_nothing(handles[0], queue)


def _accepted(broker: Broker, queue: str, begin: threading.Barrier) -> int:
    """Send five messages, one by one; return how many were taken."""
    begin.wait()
    taken = 0
    for _ in range(5):
        try:
            broker.send([message(queue)])
        except QueueFullError:
            continue
        taken += 1
    return taken
