"""Part of `BrokerSuite`: how `receive` waits, and how it is interrupted."""

from __future__ import annotations

import time

from umbel_testing.broker_kit import BrokerKit, ids, sent


class BrokerWaitingSuite(BrokerKit):
    """A wait ends with the first message, at its bound, or when it is told to."""

    def test_receive_that_may_not_wait_returns_at_once(self) -> None:
        broker, queue = self.open(), self.unique("once")
        began_at = time.monotonic()
        received = broker.receive([queue], max_messages=1, wait_s=0)

        assert list(received) == []
        assert time.monotonic() - began_at < self.grace_s

    def test_receive_waits_no_longer_than_it_may(self) -> None:
        broker, queue = self.open(), self.unique("bound")
        running = self.receiving(broker, queue, wait_s=0.2)

        assert list(running.result(0.2 + self.grace_s)) == []

    def test_waiting_receive_is_woken_by_a_message(self) -> None:
        broker, queue = self.open(), self.unique("woken")
        running = self.receiving(broker, queue)
        [original] = sent(self.raw_handle(), queue, 1)

        assert ids(running.result(self.patience_s)) == [original.id]

    def test_waiting_receive_is_woken_by_what_is_given_back(self) -> None:
        holder, broker, queue = self.open(), self.open(), self.unique("woken")
        [original] = sent(holder, queue, 1)
        held = self.take(holder, queue, 1)
        running = self.receiving(broker, queue)
        holder.nack(held)

        assert ids(running.result(self.patience_s)) == [original.id]

    def test_interrupt_ends_a_waiting_receive_empty(self) -> None:
        broker, queue = self.open(), self.unique("interrupted")
        running = self.receiving(broker, queue)

        assert list(running.result(self.patience_s, nudge=broker.interrupt)) == []

    def test_interrupted_handle_receives_on(self) -> None:
        broker, queue = self.open(), self.unique("interrupted")
        running = self.receiving(broker, queue)
        running.result(self.patience_s, nudge=broker.interrupt)
        [original] = sent(broker, queue, 1)

        assert ids(self.take(broker, queue, 1)) == [original.id]

    def test_interrupt_of_one_handle_leaves_others_waiting(self) -> None:
        broker, other, queue = self.open(), self.open(), self.unique("others")
        running = self.receiving(other, queue)
        broker.interrupt()

        assert running.goes_on(0.1)
        [original] = sent(broker, queue, 1)
        assert ids(running.result(self.patience_s)) == [original.id]

    def test_check_finds_a_working_broker_in_order(self) -> None:
        broker, queue = self.open(), self.unique("check")
        broker.check()
        [original] = sent(broker, queue, 1)

        broker.check()
        assert ids(self.take(broker, queue, 1)) == [original.id]

    def test_close_can_be_repeated(self) -> None:
        broker, queue = self.open(), self.unique("closed")
        sent(broker, queue, 1)
        broker.close()
        broker.close()

        assert len(self.take(self.open(), queue, 1)) == 1
