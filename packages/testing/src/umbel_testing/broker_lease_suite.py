"""Part of `BrokerSuite`: what a dead process held comes back (capability LEASE)."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delivery
from umbel_testing.broker_kit import BrokerKit, ids, needs, sent

#: Of a lease: a time after which it must still be valid, and one after which it must be over.
_WELL_WITHIN, _WELL_OVER = 0.3, 1.3
_LONG_S = 864_000.0


class BrokerLeaseSuite(BrokerKit):
    """Deliveries belong to a node for as long as it renews its lease."""

    @needs(Capability.LEASE)
    def test_held_lists_what_a_consumer_holds(self) -> None:
        queue, consumer = self.unique("held"), self.unique("consumer")
        broker, other = self.open(consumer=consumer), self.open()
        sent(broker, queue, 3)
        held = self.take(broker, queue, 2)
        self.take(other, queue, 1)

        assert _by_receipt(self.raw_handle().held(consumer)) == _by_receipt(held)

    @needs(Capability.LEASE)
    def test_held_leaves_out_what_was_settled(self) -> None:
        queue, consumer = self.unique("held"), self.unique("consumer")
        broker = self.open(consumer=consumer)
        sent(broker, queue, 3)
        held = self.take(broker, queue, 3)
        broker.ack([held[0]])
        broker.nack([held[1]])

        assert list(broker.held(consumer)) == [held[2]]

    @needs(Capability.LEASE)
    def test_unknown_consumer_holds_nothing(self) -> None:
        broker, nobody = self.open(), self.unique("nobody")

        assert list(broker.held(nobody)) == []
        assert broker.recover_consumer(nobody) == 0

    @needs(Capability.LEASE)
    def test_what_held_returns_can_be_acked_by_another_handle(self) -> None:
        queue, consumer = self.unique("held"), self.unique("consumer")
        sent(self.raw_handle(), queue, 1)
        self.take(self.open(consumer=consumer), queue, 1)
        supervisor = self.raw_handle()

        assert list(supervisor.ack(supervisor.held(consumer))) == []
        assert list(supervisor.held(consumer)) == []

    @needs(Capability.LEASE)
    def test_closing_a_handle_keeps_its_deliveries_held(self) -> None:
        queue, consumer, other = self.unique("closed"), self.unique("consumer"), self.open()
        broker = self.open(consumer=consumer)
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        broker.close()

        self.assert_nothing(other, queue)
        assert list(other.held(consumer)) == held

    @needs(Capability.LEASE)
    def test_renewed_lease_keeps_deliveries_however_long(self) -> None:
        queue, node, other = self.unique("renewed"), self.unique("node"), self.open()
        broker = self.open(node=node, lease_s=self.lease_s)
        sent(broker, queue, 1)
        held = self.take(broker, queue, 1)
        for _ in range(5):
            self.pass_time(self.lease_s * _WELL_WITHIN)
            assert broker.renew(node, lease_s=self.lease_s)
            other.recover_expired()

        self.assert_nothing(other, queue)
        assert list(broker.ack(held)) == []

    @needs(Capability.LEASE)
    def test_expired_lease_gives_deliveries_back_once(self) -> None:
        broker, other, queue, held = self._expired()
        messages = [delivery.message for delivery in held]

        assert other.recover_expired() == 2
        assert other.recover_expired() == 0
        again = self.take(other, queue, 2)
        assert [delivery.message for delivery in again] == messages
        assert [delivery.token for delivery in again] == [2, 2]
        assert list(broker.ack(held)) == held
        assert list(other.ack(again)) == []

    @needs(Capability.LEASE)
    def test_ack_after_recovery_is_refused_even_if_nobody_took_over(self) -> None:
        broker, other, queue, held = self._expired()
        other.recover_expired()

        assert list(broker.ack(held)) == held
        assert len(self.take(other, queue, 2)) == 2

    @needs(Capability.LEASE)
    def test_node_that_was_taken_over_is_told_so_and_begins_anew(self) -> None:
        node = self.unique("node")
        broker, other, queue, held = self._expired(node)
        other.recover_expired()

        assert not broker.renew(node, lease_s=3600.0)
        again = self.take(broker, queue, 2)
        assert list(broker.ack(held)) == held
        assert other.recover_expired() == 0
        assert list(broker.ack(again)) == []

    @needs(Capability.LEASE)
    def test_late_renewal_either_keeps_all_or_gives_all_back(self) -> None:
        node = self.unique("node")
        broker, other, queue, held = self._expired(node)

        if broker.renew(node, lease_s=3600.0):
            assert other.recover_expired() == 0
            assert list(broker.ack(held)) == []
        else:
            other.recover_expired()
            self.take(other, queue, 2)
            assert list(broker.ack(held)) == held

    @needs(Capability.LEASE)
    def test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs(self) -> None:
        queue, node = self.unique("recovered"), self.unique("node")
        dead, alive = self.unique("dead"), self.unique("alive")
        broker, neighbour = (
            self.open(node=node, consumer=dead),
            self.open(node=node, consumer=alive),
        )
        sent(broker, queue, 3)
        lost, kept = self.take(broker, queue, 2), self.take(neighbour, queue, 1)

        assert broker.recover_consumer(dead) == 2
        assert list(broker.held(dead)) == []
        assert list(broker.ack(lost)) == lost
        assert list(broker.held(alive)) == kept
        again = self.take(neighbour, queue, 2)
        assert ids(again) == ids(lost)
        assert [delivery.strikes for delivery in again] == [0, 0]

    @needs(Capability.LEASE)
    def test_what_was_running_gets_a_strike_each_time(self) -> None:
        broker, queue, consumer = self.open(), self.unique("struck"), self.unique("consumer")
        sent(broker, queue, 2)
        strikes = []
        for _ in range(3):
            held = self.take(self.open(consumer=consumer), queue, 2)
            strikes.append([delivery.strikes for delivery in held])
            broker.recover_consumer(consumer, struck={held[1].receipt: 0.0})

        assert strikes == [[0, 0], [0, 1], [0, 2]]

    @needs(Capability.LEASE, Capability.DELAY)
    def test_what_was_struck_is_held_back_and_its_neighbours_are_not(self) -> None:
        broker, queue, consumer = self.open(), self.unique("struck"), self.unique("consumer")
        sent(broker, queue, 3)
        held = self.take(self.open(consumer=consumer), queue, 3)

        assert broker.recover_consumer(consumer, struck={held[1].receipt: _LONG_S}) == 3
        again = self.take(broker, queue, 2)
        assert ids(again) == ids([held[0], held[2]])
        assert [delivery.strikes for delivery in again] == [0, 0]
        self.assert_nothing(broker, queue)

    @needs(Capability.LEASE, Capability.DELAY)
    def test_what_was_struck_comes_back_at_its_time(self) -> None:
        broker, queue, consumer = self.open(), self.unique("struck"), self.unique("consumer")
        sent(broker, queue, 1)
        [held] = self.take(self.open(consumer=consumer), queue, 1)
        due_at = self.now() + self.soon_s
        broker.recover_consumer(consumer, struck={held.receipt: self.soon_s})
        self.pass_time(max(0.0, due_at - self.now()))

        [again] = self.take(broker, queue, 1)
        assert ids([again]) == ids([held])
        assert again.strikes == 1
        assert self.now() >= due_at

    @needs(Capability.LEASE)
    def test_recovered_messages_come_back_at_their_old_place(self) -> None:
        broker, queue, consumer = self.open(), self.unique("place"), self.unique("consumer")
        messages = sent(broker, queue, 4)
        self.take(self.open(consumer=consumer), queue, 2)
        broker.recover_consumer(consumer)

        assert ids(self.take(broker, queue, 4)) == [one.id for one in messages]

    @needs(Capability.LEASE)
    def test_recovery_wakes_a_waiting_receive(self) -> None:
        broker, queue, consumer = self.open(), self.unique("woken"), self.unique("consumer")
        [original] = sent(broker, queue, 1)
        self.take(self.open(consumer=consumer), queue, 1)
        running = self.receiving(broker, queue)
        self.raw_handle().recover_consumer(consumer)

        assert ids(running.result(self.patience_s)) == [original.id]

    @needs(Capability.LEASE)
    def test_leaving_node_gives_back_what_its_consumers_hold_and_no_more(self) -> None:
        queue, node = self.unique("left"), self.unique("node")
        first, second, other = self.open(node=node), self.open(node=node), self.open()
        sent(first, queue, 3)
        left = [*self.take(first, queue, 1), *self.take(second, queue, 1)]
        kept = self.take(other, queue, 1)
        first.leave(node)

        again = self.take(other, queue, 2)
        assert ids(again) == ids(left)
        assert [delivery.strikes for delivery in again] == [0, 0]
        assert list(first.ack(left)) == left
        assert list(other.ack(kept)) == []

    @needs(Capability.LEASE)
    def test_node_can_leave_twice(self) -> None:
        node = self.unique("node")
        broker = self.open(node=node)
        broker.leave(node)
        broker.leave(node)

        assert broker.recover_expired() == 0

    def _expired(self, node: str | None = None) -> tuple[Broker, Broker, str, list[Delivery]]:
        """Return a handle whose lease is over, another one, and what the first took of a queue."""
        queue = self.unique("expired")
        broker, other = self.open(node=node, lease_s=self.lease_s), self.open()
        sent(broker, queue, 2)
        held = self.take(broker, queue, 2)
        self.pass_time(self.lease_s * _WELL_OVER)
        return broker, other, queue, held


def _by_receipt(deliveries: Sequence[Delivery]) -> dict[str, Delivery]:
    return {delivery.receipt: delivery for delivery in deliveries}
