"""Part of `BrokerSuite`: `ack`, `nack` and `settle`."""

from __future__ import annotations

import pytest

from umbel.errors import UmbelError
from umbel.interfaces.broker import Capability
from umbel_testing.broker_kit import BrokerKit, ids, message_of, sent
from umbel_testing.samples import message


class BrokerSettlingSuite(BrokerKit):
    """A held message is removed or given back, by who holds it and nobody else."""

    def test_acked_message_is_gone(self) -> None:
        broker, queue = self.open(), self.unique("acked")
        sent(broker, queue, 2)
        held = self.take(broker, queue, 2)

        assert list(broker.ack(held)) == []
        broker.nack(held)
        self.assert_nothing(broker, queue)

    def test_settling_nothing_does_nothing(self) -> None:
        broker, queue = self.open(), self.unique("nothing")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        broker.nack([])

        assert list(broker.ack([])) == []
        assert list(broker.settle([], [])) == []
        self.assert_nothing(broker, queue)
        assert list(broker.ack(held)) == []

    def test_part_of_a_batch_can_be_acked(self) -> None:
        broker, queue = self.open(), self.unique("part")
        messages = sent(broker, queue, 3)
        held = self.take(broker, queue, 3)

        assert list(broker.ack([held[1]])) == []
        broker.nack([held[0], held[2]])
        assert ids(self.take(broker, queue, 2)) == [messages[0].id, messages[2].id]

    def test_any_handle_may_ack(self) -> None:
        broker, queue = self.open(), self.unique("any")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)

        assert list(self.raw_handle().ack(held)) == []
        broker.nack(held)
        self.assert_nothing(broker, queue)

    def test_second_ack_is_refused(self) -> None:
        broker, queue = self.open(), self.unique("twice")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        broker.ack(held)

        assert list(broker.ack(held)) == held

    def test_ack_of_what_was_given_back_is_refused_and_changes_nothing(self) -> None:
        broker, queue = self.open(), self.unique("back")
        [original] = sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        broker.nack(held)

        assert list(broker.ack(held)) == held
        assert ids(self.take(broker, queue, 1)) == [original.id]

    def test_late_ack_is_refused_and_leaves_the_new_holder_its_message(self) -> None:
        late, new, queue = self.open(), self.open(), self.unique("late")
        sent(late, queue, 1)
        old_hold = self.take(late, queue, 1)
        late.nack(old_hold)
        new_hold = self.take(new, queue, 1)

        assert list(late.ack(old_hold)) == old_hold
        assert list(new.ack(new_hold)) == []

    def test_late_nack_is_passed_over(self) -> None:
        late, new, queue = self.open(), self.open(), self.unique("late")
        sent(late, queue, 1)
        old_hold = self.take(late, queue, 1)
        late.nack(old_hold)
        new_hold = self.take(new, queue, 1)
        late.nack(old_hold)

        self.assert_nothing(late, queue)
        assert list(new.ack(new_hold)) == []

    def test_ack_tells_the_lost_from_the_held(self) -> None:
        broker, queue = self.open(), self.unique("mixed")
        sent(broker, queue, 3)
        held = self.take(broker, queue, 3)
        broker.nack([held[1]])

        assert list(broker.ack(held)) == [held[1]]
        [again] = self.take(broker, queue, 1)
        assert again.message == held[1].message

    def test_nacked_message_comes_back_equal_with_a_higher_token_and_no_strike(self) -> None:
        broker, queue = self.open(), self.unique("token")
        [original] = sent(broker, queue, 1)
        tokens = []
        for _ in range(3):
            [delivery] = self.take(broker, queue, 1)
            tokens.append((delivery.token, delivery.redelivered, delivery.strikes))
            broker.nack([delivery])

        assert tokens == [(1, False, 0), (2, True, 0), (3, True, 0)]
        assert self.take(broker, queue, 1)[0].message == original

    def test_nacked_message_comes_back_at_its_old_place(self) -> None:
        broker, queue = self.open(), self.unique("place")
        messages = sent(broker, queue, 3)
        held = self.take(broker, queue, 2)
        broker.nack([held[1]])
        broker.nack([held[0]])

        assert ids(self.take(broker, queue, 3)) == [one.id for one in messages]

    def test_settle_sends_the_follow_ups_and_acks(self) -> None:
        broker, queue, after = self.open(), self.unique("settle"), self.unique("after")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        follow_ups = [message(after), message(after)]

        assert list(broker.settle(held, follow_ups)) == []
        assert [one.message for one in self.take(broker, after, 2)] == follow_ups
        assert list(broker.ack(held)) == held

    def test_settle_without_follow_ups_acks(self) -> None:
        broker, queue = self.open(), self.unique("settle")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)

        assert list(broker.settle(held, [])) == []
        assert list(broker.ack(held)) == held

    def test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same(self) -> None:
        broker, queue, after = self.open(), self.unique("settle"), self.unique("after")
        sent(broker, queue, 2)
        held = self.take(broker, queue, 2)
        broker.nack([held[0]])
        follow_up = message(after)

        assert list(broker.settle(held, [follow_up])) == [held[0]]
        assert ids(self.take(broker, after, 1)) == [follow_up.id]
        [again] = self.take(broker, queue, 1)
        assert again.message == held[0].message

    def test_failed_settle_keeps_the_delivery_and_atomically_sends_nothing(self) -> None:
        broker, queue, after = self.open(), self.unique("settle"), self.unique("after")
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        with pytest.raises(UmbelError):
            broker.settle(held, [message(after), message(after, headers={"x": object()})])

        if Capability.ATOMIC_SETTLE in broker.capabilities:
            self.assert_nothing(broker, after)
        assert list(broker.ack(held)) == []

    def test_settle_and_receive_acks_and_takes_what_is_next_at_most(self) -> None:
        broker, queue = self.open(), self.unique("both")
        messages = sent(broker, queue, 4)
        held = self.take(broker, queue, 1)

        lost, taken = broker.settle_and_receive(held, [], [queue], max_messages=2)
        assert list(lost) == []
        assert len(taken) <= 2
        rest = self.take(broker, queue, 3 - len(taken))
        assert ids([*taken, *rest]) == [one.id for one in messages[1:]]
        assert list(broker.ack([*held, *taken, *rest])) == held

    def test_settle_and_receive_tells_the_lost_and_sends_all_the_same(self) -> None:
        broker, queue, after = self.open(), self.unique("both"), self.unique("after")
        sent(broker, queue, 2)
        held = self.take(broker, queue, 2)
        broker.ack([held[0]])
        follow_up = message(after)

        lost, taken = broker.settle_and_receive(held, [follow_up], [after], max_messages=1)
        assert list(lost) == [held[0]]
        assert ids(taken or self.take(broker, after, 1)) == [follow_up.id]
        assert list(broker.ack(held)) == held

    def test_failed_settle_and_receive_keeps_all_deliveries(self) -> None:
        broker, queue, after = self.open(), self.unique("both"), self.unique("after")
        sent(broker, queue, 2)
        held = self.take(broker, queue, 1)
        with pytest.raises(UmbelError):
            broker.settle_and_receive(
                held, [message(after, headers={"x": object()})], [queue], max_messages=1
            )

        assert list(broker.ack(held)) == []
        self.take(broker, queue, 1)

    def test_nacked_batch_keeps_its_priorities(self) -> None:
        broker, queue = self.open(), self.unique("batch")
        broker.send([message(queue, priority=priority) for priority in (3, 8)])
        before = self.take(broker, queue, 2)
        broker.nack(before)

        after = self.take(broker, queue, 2)
        assert [message_of(one).priority for one in after] == [
            message_of(one).priority for one in before
        ]
