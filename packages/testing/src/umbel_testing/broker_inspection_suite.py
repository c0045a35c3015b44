"""Part of `BrokerSuite`: looking at queues, and emptying them."""

from __future__ import annotations

from umbel.interfaces.broker import Capability
from umbel.messages import QueueStats
from umbel_testing.broker_kit import BrokerKit, ids, needs, peeked, sent
from umbel_testing.samples import message

_LATER_S = 864_000.0


class BrokerInspectionSuite(BrokerKit):
    """Capabilities INSPECT and PURGE."""

    @needs(Capability.INSPECT)
    def test_unknown_queue_is_empty(self) -> None:
        broker, queue = self.open(), self.unique("unknown")

        assert broker.stats(queue) == QueueStats(name=queue)
        assert list(broker.peek(queue)) == []
        assert queue not in broker.queues()

    @needs(Capability.INSPECT)
    def test_stats_count_the_ready_and_the_held(self) -> None:
        broker, queue, other = self.open(), self.unique("stats"), self.unique("other")
        sent(broker, queue, 5)
        sent(broker, other, 1)
        held = self.take(broker, queue, 3)
        broker.ack(held[:1])

        stats = broker.stats(queue)
        assert (stats.name, stats.ready, stats.held, stats.delayed, stats.dead) == (
            queue, 2, 2, 0, 0,
        )  # fmt: skip

    @needs(Capability.INSPECT, Capability.DELAY)
    def test_stats_count_the_delayed_apart_until_they_are_due(self) -> None:
        broker, queue = self.open(), self.unique("stats")
        now = self.now()
        sent(broker, queue, 1, due_at=now + _LATER_S)
        sent(broker, queue, 1, due_at=now + self.soon_s)
        sent(broker, queue, 1)
        before = broker.stats(queue)
        self.pass_time(self.soon_s)

        after = broker.stats(queue)
        assert before.ready + before.delayed == 3
        assert before.delayed == 2 or self.now() >= now + self.soon_s
        assert (after.ready, after.delayed) == (2, 1)

    @needs(Capability.INSPECT)
    def test_oldest_age_grows_while_something_is_ready(self) -> None:
        broker, queue = self.open(), self.unique("age")
        sent(broker, queue, 1)
        self.pass_time(self.soon_s)
        sent(broker, queue, 1)
        age_s = broker.stats(queue).oldest_age_s
        self.take(broker, queue, 1)
        younger_s = broker.stats(queue).oldest_age_s
        self.take(broker, queue, 1)

        assert age_s is not None
        assert younger_s is not None
        assert age_s >= self.soon_s * 0.9
        assert 0 <= younger_s < age_s
        assert broker.stats(queue).oldest_age_s is None

    @needs(Capability.INSPECT)
    def test_queues_names_all_that_hold_or_held_messages_sorted(self) -> None:
        broker, names = self.open(), sorted(self.unique("queue") for _ in range(3))
        broker.send([message(name) for name in reversed(names)])
        broker.ack(self.take(broker, names[1], 1))

        found = list(broker.queues())
        assert [name for name in found if name in names] == names
        assert found == sorted(found)

    @needs(Capability.INSPECT)
    def test_peek_shows_what_comes_next_and_takes_nothing(self) -> None:
        broker, queue = self.open(), self.unique("peek")
        sent(broker, queue, 2)
        sent(broker, queue, 3, priority=5)
        seen = list(broker.peek(queue, limit=5))

        taken = self.take(broker, queue, 5)
        assert seen == [delivery.message for delivery in taken]
        assert {delivery.token for delivery in taken} == {1}

    @needs(Capability.INSPECT)
    def test_peek_goes_through_a_queue_in_pages(self) -> None:
        broker, queue = self.open(), self.unique("peek")
        messages = sent(broker, queue, 5)

        pages = [peeked(broker.peek(queue, limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
        expected = [one.id for one in messages]
        assert pages == [expected[:2], expected[2:4], expected[4:], []]

    @needs(Capability.INSPECT, Capability.DELAY)
    def test_peek_shows_the_delayed_after_the_ready_the_next_due_first(self) -> None:
        broker, queue = self.open(), self.unique("peek")
        [late] = sent(broker, queue, 1, due_at=self.now() + 2 * _LATER_S, priority=9)
        [soon] = sent(broker, queue, 1, due_at=self.now() + _LATER_S)
        [ready] = sent(broker, queue, 1)

        assert peeked(broker.peek(queue)) == [ready.id, soon.id, late.id]

    @needs(Capability.INSPECT)
    def test_peek_leaves_out_what_is_held(self) -> None:
        broker, queue = self.open(), self.unique("peek")
        messages = sent(broker, queue, 2)
        self.take(broker, queue, 1)

        assert peeked(broker.peek(queue)) == [messages[1].id]

    @needs(Capability.PURGE)
    def test_purge_drops_what_waits_and_counts_it(self) -> None:
        broker, queue, other = self.open(), self.unique("purged"), self.unique("other")
        sent(broker, queue, 3)
        [kept] = sent(broker, other, 1)

        assert broker.purge(queue) == 3
        assert broker.purge(queue) == 0
        self.assert_nothing(broker, queue)
        assert ids(self.take(broker, other, 1)) == [kept.id]

    @needs(Capability.PURGE, Capability.DELAY)
    def test_purge_drops_the_delayed_too(self) -> None:
        broker, queue = self.open(), self.unique("purged")
        sent(broker, queue, 2, due_at=self.now() + self.soon_s)

        assert broker.purge(queue) == 2
        self.pass_time(self.soon_s)
        self.assert_nothing(broker, queue)

    @needs(Capability.PURGE)
    def test_purge_leaves_the_held_to_their_holder(self) -> None:
        broker, queue = self.open(), self.unique("purged")
        sent(broker, queue, 3)
        held = self.take(broker, queue, 2)

        assert broker.purge(queue) == 1
        assert list(broker.ack(held[:1])) == []
        broker.nack(held[1:])
        assert len(self.take(broker, queue, 1)) == 1
