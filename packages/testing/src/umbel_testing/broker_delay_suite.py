"""Part of `BrokerSuite`: what is due later (capability DELAY)."""

from __future__ import annotations

from umbel.interfaces.broker import Capability
from umbel_testing.broker_kit import BrokerKit, ids, needs, sent

_TEN_DAYS_S = 864_000.0


class BrokerDelaySuite(BrokerKit):
    """Nobody sees a message before its time, and its time is kept."""

    @needs(Capability.DELAY)
    def test_delayed_message_waits_for_its_time(self) -> None:
        broker, queue = self.open(), self.unique("delayed")
        due_at = self.now() + self.soon_s
        [original] = sent(broker, queue, 1, due_at=due_at)
        self.assert_not_before(due_at, broker, queue)
        self.pass_time(max(0.0, due_at - self.now()))

        [delivery] = self.take(broker, queue, 1)
        assert delivery.message == original

    @needs(Capability.DELAY)
    def test_waiting_receive_gets_a_message_at_its_time(self) -> None:
        broker, queue = self.open(), self.unique("delayed")
        due_at = self.now() + self.soon_s
        [original] = sent(broker, queue, 1, due_at=due_at)
        running = self.receiving(broker, queue)
        self.pass_time(max(0.0, due_at - self.now()))

        assert ids(running.result(self.grace_s)) == [original.id]
        assert self.now() >= due_at

    @needs(Capability.DELAY)
    def test_delayed_messages_come_each_at_its_own_time(self) -> None:
        broker, queue = self.open(), self.unique("delayed")
        now = self.now()
        [last] = sent(broker, queue, 1, due_at=now + _TEN_DAYS_S)
        [first] = sent(broker, queue, 1, due_at=now + self.soon_s)
        self.pass_time(self.soon_s)

        assert ids(self.take(broker, queue, 1)) == [first.id]
        self.assert_not_before(last.due_at or 0.0, broker, queue)

    @needs(Capability.DELAY)
    def test_delayed_message_does_not_hold_up_those_behind_it(self) -> None:
        broker, queue = self.open(), self.unique("delayed")
        sent(broker, queue, 1, due_at=self.now() + _TEN_DAYS_S, priority=9)
        [ready] = sent(broker, queue, 1)

        assert ids(self.take(broker, queue, 1)) == [ready.id]

    @needs(Capability.DELAY)
    def test_message_due_in_the_past_comes_at_once(self) -> None:
        broker, queue = self.open(), self.unique("past")
        [original] = sent(broker, queue, 1, due_at=self.now() - _TEN_DAYS_S)

        assert ids(self.take(broker, queue, 1)) == [original.id]

    @needs(Capability.DELAY)
    def test_message_nacked_with_a_delay_comes_back_after_it(self) -> None:
        broker, queue = self.open(), self.unique("nacked")
        [original] = sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        given_back_at = self.now()
        broker.nack(held, delay_s=self.soon_s)
        self.assert_not_before(given_back_at + self.soon_s, broker, queue)
        self.pass_time(self.soon_s)

        [delivery] = self.take(broker, queue, 1)
        assert (delivery.message, delivery.token, delivery.strikes) == (original, 2, 0)

    @needs(Capability.DELAY)
    def test_message_nacked_with_a_delay_keeps_its_place_among_the_ready(self) -> None:
        broker, queue = self.open(), self.unique("nacked")
        messages = sent(broker, queue, 2)
        held = self.take(broker, queue, 1)
        broker.nack(held, delay_s=self.soon_s)
        self.pass_time(self.soon_s)

        assert ids(self.take(broker, queue, 2)) == [one.id for one in messages]
