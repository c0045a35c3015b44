"""Part of `BrokerSuite`: looking at what is due later, and changing that (capability DELAYED)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delayed, Message, QueueStats
from umbel_testing.broker_kit import BrokerKit, ids, message_of, needs, peeked, sent
from umbel_testing.samples import message

_LATER_S = 864_000.0
_UNKNOWN = ("", "no-such-receipt", "0", "-1")


class BrokerDelayedSuite(BrokerKit):
    """What waits for its time is listed, made ready at once, or dropped."""

    @needs(Capability.DELAYED)
    def test_delayed_lists_what_waits_the_next_due_first(self) -> None:
        broker, queue, now = self.open(), self.unique("delayed"), self.now()
        messages = [sent(broker, queue, 1, due_at=now + n * _LATER_S)[0] for n in (3, 1, 2)]
        sent(broker, queue, 1)

        found = list(broker.delayed(queue))
        assert [one.message for one in found] == [messages[1], messages[2], messages[0]]
        assert {one.queue for one in found} == {queue}
        expected = [now + n * _LATER_S for n in (1, 2, 3)]
        assert [one.due_at for one in found] == pytest.approx(expected, abs=self.soon_s, rel=0)
        assert len({one.receipt for one in found}) == 3

    @needs(Capability.DELAYED)
    def test_delayed_goes_by_queue_or_through_all_in_pages(self) -> None:
        broker, now = self.open(), self.now()
        queues = sorted(self.unique("delayed") for _ in range(2))
        for n in (1, 2, 3, 4):
            sent(broker, queues[n % 2], 1, due_at=now + n * _LATER_S)
        whole = [one.receipt for one in broker.delayed(limit=10_000)]
        first, second = ([one.receipt for one in broker.delayed(name)] for name in queues)

        in_order = [second[0], first[0], second[1], first[1]]
        assert (len(first), len(second)) == (2, 2)
        assert [one for one in whole if one in in_order] == in_order
        pages = [
            [one.receipt for one in broker.delayed(queues[0], limit=1, offset=offset)]
            for offset in range(3)
        ]
        assert pages == [first[:1], first[1:], []]
        walked = [
            one.receipt
            for offset in range(0, len(whole), 3)
            for one in broker.delayed(limit=3, offset=offset)
        ]
        assert [one for one in walked if one in in_order] == in_order

    @needs(Capability.DELAYED)
    def test_delayed_lists_what_was_given_back_for_later(self) -> None:
        broker, queue, now = self.open(), self.unique("delayed"), self.now()
        [original] = sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        assert list(broker.delayed(queue)) == []
        broker.nack(held, delay_s=_LATER_S)

        [found] = broker.delayed(queue)
        assert found.message == original
        assert now + _LATER_S - 0.1 <= found.due_at <= self.now() + _LATER_S + self.soon_s

    @needs(Capability.DELAYED)
    def test_what_is_due_is_not_delayed_any_more(self) -> None:
        broker, queue = self.open(), self.unique("due")
        [original] = sent(broker, queue, 1, due_at=self.now() + self.soon_s)
        receipts = _receipts(broker, queue)
        self.pass_time(self.soon_s)

        self.eventually(lambda: not broker.delayed(queue))
        assert (broker.promote(receipts), broker.drop_delayed(receipts)) == (0, 0)
        assert ids(self.take(broker, queue, 1)) == [original.id]

    @needs(Capability.DELAYED)
    def test_promoted_message_is_ready_at_once(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        first, second, third = (self._later(broker, queue) for _ in range(3))

        assert self.raw_handle().promote([first.receipt, third.receipt]) == 2
        assert [one.receipt for one in broker.delayed(queue)] == [second.receipt]
        if Capability.INSPECT in broker.capabilities:
            assert (broker.stats(queue).ready, broker.stats(queue).delayed) == (2, 1)
            assert len(peeked(broker.peek(queue))) == 3
        taken = self.take(broker, queue, 2)
        assert {message_of(one).id for one in taken} == {_id_of(first), _id_of(third)}
        assert {(one.token, one.strikes) for one in taken} == {(1, 0)}
        assert list(broker.ack(taken)) == []
        self.assert_nothing(broker, queue)

    @needs(Capability.DELAYED)
    def test_promoted_message_is_as_it_was_sent(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        delayed = self._later(broker, queue)
        broker.promote([delayed.receipt])

        [delivery] = self.take(broker, queue, 1)
        assert delivery.message == delayed.message

    @needs(Capability.DELAYED)
    def test_waiting_receive_is_woken_by_promote(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        delayed = self._later(broker, queue)
        running = self.receiving(broker, queue)
        self.raw_handle().promote([delayed.receipt])

        assert ids(running.result(self.patience_s)) == [_id_of(delayed)]

    @needs(Capability.DELAYED)
    def test_promoted_message_that_is_given_back_stays_ready(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        delayed = self._later(broker, queue)
        broker.promote([delayed.receipt])
        broker.nack(self.take(broker, queue, 1))

        assert list(broker.delayed(queue)) == []
        [delivery] = self.take(broker, queue, 1)
        assert (delivery.message, delivery.token) == (delayed.message, 2)

    @needs(Capability.DELAYED)
    def test_what_is_not_delayed_is_neither_promoted_nor_dropped(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        sent(broker, queue, 1)
        delayed = self._later(broker, queue)

        assert (broker.promote([]), broker.drop_delayed([])) == (0, 0)
        assert (broker.promote(_UNKNOWN), broker.drop_delayed(_UNKNOWN)) == (0, 0)
        assert broker.promote([*_UNKNOWN, delayed.receipt]) == 1
        assert broker.promote([delayed.receipt]) == 0
        assert broker.drop_delayed([delayed.receipt]) == 0
        held = self.take(broker, queue, 2)
        assert broker.promote([delayed.receipt]) == 0
        assert broker.drop_delayed([delayed.receipt]) == 0
        assert list(broker.ack(held)) == []

    @needs(Capability.DELAYED)
    def test_message_promoted_by_many_threads_comes_once(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        receipts = [self._later(broker, queue).receipt for _ in range(5)]
        handles = [self.raw_handle() for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            counts = list(threads.map(lambda handle: handle.promote(receipts), handles))

        assert sum(counts) == 5
        assert len(set(ids(self.take(broker, queue, 5)))) == 5
        self.assert_nothing(broker, queue)

    @needs(Capability.DELAYED)
    def test_dropped_message_is_gone_for_good(self) -> None:
        broker, queue = self.open(), self.unique("dropped")
        first, kept, third = (self._later(broker, queue) for _ in range(3))
        receipts = [first.receipt, third.receipt]

        assert self.raw_handle().drop_delayed(receipts) == 2
        assert _receipts(broker, queue) == [kept.receipt]
        assert (broker.drop_delayed(receipts), broker.promote(receipts)) == (0, 0)
        self.assert_nothing(broker, queue)
        if Capability.INSPECT in broker.capabilities:
            assert broker.stats(queue) == QueueStats(name=queue, delayed=1)

    @needs(Capability.DELAYED, Capability.UNIQUE)
    def test_dropped_message_can_be_sent_once_again(self) -> None:
        broker, queue = self.open(), self.unique("dropped")
        original = _once(broker, queue, self.now() + _LATER_S)
        broker.drop_delayed(_receipts(broker, queue))

        assert list(broker.send_once([original])) == []
        assert len(broker.delayed(queue)) == 1

    @needs(Capability.DELAYED, Capability.UNIQUE)
    def test_promoted_message_stays_known(self) -> None:
        broker, queue = self.open(), self.unique("promoted")
        original = _once(broker, queue, self.now() + _LATER_S)
        broker.promote(_receipts(broker, queue))

        assert list(broker.send_once([original])) == [original.id]
        broker.ack(self.take(broker, queue, 1))
        assert list(broker.send_once([original])) == [original.id]
        self.assert_nothing(broker, queue)

    @needs(Capability.DELAYED, Capability.PAUSE)
    def test_promoted_message_of_a_paused_queue_waits(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        delayed = self._later(broker, queue)
        broker.pause(queue)
        assert broker.promote([delayed.receipt]) == 1
        self.assert_nothing(broker, queue)

        broker.resume(queue)
        assert ids(self.take(broker, queue, 1)) == [_id_of(delayed)]

    def _later(self, broker: Broker, queue: str) -> Delayed:
        """Send a message that is due in days, and return how it is listed."""
        [original] = sent(broker, queue, 1, due_at=self.now() + _LATER_S)
        [found] = [one for one in broker.delayed(queue) if one.message == original]
        return found


def _receipts(broker: Broker, queue: str) -> list[str]:
    return [one.receipt for one in broker.delayed(queue)]


def _once(broker: Broker, queue: str, due_at: float) -> Message:
    original = message(queue, due_at=due_at)
    assert list(broker.send_once([original])) == []
    return original


def _id_of(delayed: Delayed) -> str:
    return str(getattr(delayed.message, "id", ""))
