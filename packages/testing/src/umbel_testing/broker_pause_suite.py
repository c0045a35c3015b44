"""Part of `BrokerSuite`: queues that are paused for everybody (capability PAUSE)."""

from __future__ import annotations

from umbel.interfaces.broker import Capability
from umbel_testing.broker_kit import BrokerKit, ids, needs, sent

#: Real seconds that a test lets a call wait in vain.
_IN_VAIN_S = 0.15


class BrokerPauseSuite(BrokerKit):
    """Nothing comes out of a paused queue, whoever asks, and nothing of it is lost."""

    @needs(Capability.PAUSE)
    def test_paused_queue_hands_out_nothing_to_anybody(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        sent(broker, queue, 2)
        self.raw_handle().pause(queue)

        self.assert_nothing(broker, queue)
        self.assert_nothing(self.open(), queue)

    @needs(Capability.PAUSE)
    def test_waiting_receive_gets_nothing_out_of_a_paused_queue(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        sent(broker, queue, 1)
        broker.pause(queue)
        assert list(broker.receive([queue], max_messages=1, wait_s=_IN_VAIN_S)) == []

        running = self.receiving(broker, queue)
        sent(self.raw_handle(), queue, 1)
        assert running.goes_on(_IN_VAIN_S)
        assert list(running.result(self.patience_s, nudge=broker.interrupt)) == []

    @needs(Capability.PAUSE)
    def test_paused_queue_takes_what_is_sent(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        broker.pause(queue)
        messages = sent(broker, queue, 2)
        self.assert_nothing(broker, queue)
        if Capability.INSPECT in broker.capabilities:
            assert (broker.stats(queue).ready, len(broker.peek(queue))) == (2, 2)

        broker.resume(queue)
        assert ids(self.take(broker, queue, 2)) == [one.id for one in messages]

    @needs(Capability.PAUSE)
    def test_paused_queue_does_not_hold_up_others(self) -> None:
        broker, queue, other = self.open(), self.unique("paused"), self.unique("other")
        broker.pause(queue)
        sent(broker, queue, 1)
        [original] = sent(broker, other, 1)

        assert ids(self.take(broker, [queue, other], 1)) == [original.id]
        self.assert_nothing(broker, queue, other)

    @needs(Capability.PAUSE)
    def test_pause_leaves_the_held_to_their_holder(self) -> None:
        broker, queue = self.open(), self.unique("held")
        messages = sent(broker, queue, 3)
        first, second, _ = held = self.take(broker, queue, 3)
        broker.pause(queue)

        assert list(broker.ack([first])) == []
        broker.nack(held[2:])  # the later one first: a store may put each before all that waits
        self.assert_nothing(broker, queue)
        broker.nack([second])
        self.assert_nothing(broker, queue)
        broker.resume(queue)
        assert set(ids(self.take(broker, queue, 2))) == {one.id for one in messages[1:]}

    @needs(Capability.PAUSE, Capability.LEASE)
    def test_what_a_dead_consumer_held_of_a_paused_queue_waits(self) -> None:
        queue, consumer = self.unique("held"), self.unique("consumer")
        holder, broker = self.open(consumer=consumer), self.open()
        [original] = sent(holder, queue, 1)
        self.take(holder, queue, 1)
        broker.pause(queue)

        assert broker.recover_consumer(consumer) == 1
        self.assert_nothing(broker, queue)
        broker.resume(queue)
        assert ids(self.take(broker, queue, 1)) == [original.id]

    @needs(Capability.PAUSE)
    def test_waiting_receive_is_woken_by_resume(self) -> None:
        broker, queue = self.open(), self.unique("resumed")
        broker.pause(queue)
        [original] = sent(broker, queue, 1)
        running = self.receiving(broker, queue)
        assert running.goes_on(_IN_VAIN_S)  # it neither takes the message nor gives up
        self.raw_handle().resume(queue)

        assert ids(running.result(self.patience_s)) == [original.id]

    @needs(Capability.PAUSE)
    def test_waiting_receive_takes_one_at_most_after_a_pause(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        running = self.receiving(broker, queue)
        other = self.raw_handle()
        other.pause(queue)
        messages = [sent(other, queue, 1)[0] for _ in range(3)]
        running.goes_on(_IN_VAIN_S)

        early = ids(running.result(self.patience_s, nudge=broker.interrupt))
        assert early in ([], [messages[0].id])
        self.assert_nothing(broker, queue)
        other.resume(queue)
        expected = [one.id for one in messages[len(early) :]]
        assert ids(self.take(broker, queue, len(expected))) == expected

    @needs(Capability.PAUSE)
    def test_interrupt_ends_a_waiting_receive_on_a_paused_queue(self) -> None:
        broker, queue = self.open(), self.unique("interrupted")
        broker.pause(queue)
        sent(broker, queue, 1)
        running = self.receiving(broker, queue)

        assert list(running.result(self.patience_s, nudge=broker.interrupt)) == []

    @needs(Capability.PAUSE, Capability.DELAY)
    def test_delayed_message_of_a_paused_queue_waits_on_when_it_is_due(self) -> None:
        broker, queue = self.open(), self.unique("delayed")
        [original] = sent(broker, queue, 1, due_at=self.now() + self.soon_s)
        broker.pause(queue)
        self.pass_time(self.soon_s)
        self.assert_nothing(broker, queue)

        broker.resume(queue)
        assert ids(self.take(broker, queue, 1)) == [original.id]

    @needs(Capability.PAUSE)
    def test_pause_outlives_the_handle_that_made_it(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        sent(broker, queue, 1)
        broker.pause(queue)
        broker.close()
        another = self.open()

        assert queue in another.paused()
        self.assert_nothing(another, queue)

    @needs(Capability.PAUSE)
    def test_paused_names_queues_sorted(self) -> None:
        broker, names = self.open(), [self.unique("paused") for _ in range(4)]
        for name in reversed(names):
            broker.pause(name)
        broker.resume(names[1])

        found = list(self.raw_handle().paused())
        assert [name for name in found if name in names] == sorted({*names} - {names[1]})
        assert found == sorted(found)

    @needs(Capability.PAUSE)
    def test_pause_and_resume_can_be_repeated(self) -> None:
        broker, queue = self.open(), self.unique("paused")
        broker.resume(queue)
        broker.pause(queue)
        broker.pause(queue)
        assert list(broker.paused()).count(queue) == 1
        broker.resume(queue)
        [original] = sent(broker, queue, 1)

        assert queue not in broker.paused()
        assert ids(self.take(broker, queue, 1)) == [original.id]
        broker.resume(queue)
