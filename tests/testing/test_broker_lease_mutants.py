"""Each test of the lease part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

from typing import ClassVar

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel_testing import BrokerSuite
from umbel_testing.broker_lease_suite import BrokerLeaseSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerLeaseSuite, make_broker)


@MUTANTS.caught_by(
    "test_closing_a_handle_keeps_its_deliveries_held",
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_held_leaves_out_what_was_settled",
    "test_held_lists_what_a_consumer_holds",
)
class HoldsNothing(MemoryBroker):
    def held(self, consumer):
        return []


@MUTANTS.caught_by(
    "test_closing_a_handle_keeps_its_deliveries_held",
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_held_leaves_out_what_was_settled",
    "test_held_lists_what_a_consumer_holds",
    "test_what_held_returns_can_be_acked_by_another_handle",
)
class ListsWhatAllHold(MemoryBroker):
    def held(self, consumer):
        return [
            one for name in self._store._holdings for one in super(MemoryBroker, self).held(name)
        ]


@MUTANTS.caught_by(
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_held_leaves_out_what_was_settled",
    "test_what_held_returns_can_be_acked_by_another_handle",
)
class ListsWhatWasSettled(MemoryBroker):
    seen: ClassVar[dict] = {}

    def receive(self, queues, **how):
        got = super().receive(queues, **how)
        self.seen.setdefault(self._consumer, []).extend(got)
        return got

    def held(self, consumer):
        return self.seen.get(consumer, [])


@MUTANTS.caught_by("test_unknown_consumer_holds_nothing")
class FailsForUnknownConsumers(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        assert "nobody" not in consumer
        return super().recover_consumer(consumer, struck=struck)


@MUTANTS.caught_by("test_closing_a_handle_keeps_its_deliveries_held")
class GivesBackAtClose(MemoryBroker):
    def close(self):
        super().close()
        self.recover_consumer(self._consumer)


@MUTANTS.caught_by(
    "test_late_renewal_either_keeps_all_or_gives_all_back",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_renewed_lease_keeps_deliveries_however_long",
)
class NeverProlongs(MemoryBroker):
    def renew(self, node, *, lease_s):
        return node in self._store._leases


@MUTANTS.caught_by(
    "test_ack_after_recovery_is_refused_even_if_nobody_took_over",
    "test_expired_lease_gives_deliveries_back_once",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
)
class NeverExpires(MemoryBroker):
    def recover_expired(self):
        return 0


@MUTANTS.caught_by(
    "test_late_renewal_either_keeps_all_or_gives_all_back",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_renewed_lease_keeps_deliveries_however_long",
)
class ExpiresTheLiving(MemoryBroker):
    def recover_expired(self):
        with self._changed:
            nodes = [node for node in self._store._leases if node != self._node]
            given_back = sum(self._store.end(node, self._clock.time()) for node in nodes)
            self._changed.notify_all()
            return given_back


@MUTANTS.caught_by("test_expired_lease_gives_deliveries_back_once")
class CountsNodesNotMessages(MemoryBroker):
    def recover_expired(self):
        return min(1, super().recover_expired())


@MUTANTS.caught_by(
    "test_expired_lease_gives_deliveries_back_once",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
)
class RecoversTwice(MemoryBroker):
    again = 0

    def recover_expired(self):
        self.again = super().recover_expired() or self.again
        return self.again


@MUTANTS.caught_by(
    "test_ack_after_recovery_is_refused_even_if_nobody_took_over",
    "test_ack_of_what_was_given_back_is_refused_and_changes_nothing",
    "test_ack_tells_the_lost_from_the_held",
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
)
class LeavesTheRecoveredToTheLate(MemoryBroker):
    """Accepts a late ack as long as nobody took over."""

    def _ack(self, deliveries):
        lost = []
        for one in super()._ack(deliveries):
            queue = self._store._queue(one.queue)
            mine = [item for item in queue._ready if item[2].receipt == one.receipt]
            if mine:
                queue._ready.remove(mine[0])
            else:
                lost.append(one)
        return lost


@MUTANTS.caught_by("test_node_that_was_taken_over_is_told_so_and_begins_anew")
class RenewsTheDead(MemoryBroker):
    def renew(self, node, *, lease_s):
        super().renew(node, lease_s=lease_s)
        return True


@MUTANTS.caught_by("test_node_that_was_taken_over_is_told_so_and_begins_anew")
class DoesNotReviveTheDead(MemoryBroker):
    def renew(self, node, *, lease_s):
        return node in self._store._leases and super().renew(node, lease_s=lease_s)


@MUTANTS.caught_by(
    "test_late_renewal_either_keeps_all_or_gives_all_back",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
)
class RenewsAndGivesBackAll(MemoryBroker):
    def renew(self, node, *, lease_s):
        with self._changed:
            if self._store._leases.get(node, 1e18) <= self._clock.monotonic():
                self._store.end(node, self._clock.time())
        super().renew(node, lease_s=lease_s)
        return True


@MUTANTS.caught_by("test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs")
class RecoversTheWholeNode(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        node = self._store._node_of.get(consumer)
        count = super().recover_consumer(consumer, struck=struck)
        for other, owner in list(self._store._node_of.items()):
            if owner == node:
                super().recover_consumer(other)
        return count


@MUTANTS.caught_by(
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_recovered_messages_come_back_at_their_old_place",
    "test_what_a_dead_consumer_held_of_a_paused_queue_waits",
    "test_what_was_running_gets_a_strike_each_time",
    "test_what_was_struck_comes_back_at_its_time",
    "test_what_was_struck_is_held_back_and_its_neighbours_are_not",
)
class RecoversNothing(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        return len(self.held(consumer))


@MUTANTS.caught_by(
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_what_was_running_gets_a_strike_each_time",
    "test_what_was_struck_is_held_back_and_its_neighbours_are_not",
)
class StrikesAll(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        return super().recover_consumer(
            consumer, struck=dict.fromkeys((one.receipt for one in self.held(consumer)), 0.0)
        )


@MUTANTS.caught_by(
    "test_what_was_running_gets_a_strike_each_time",
    "test_what_was_struck_comes_back_at_its_time",
    "test_what_was_struck_is_held_back_and_its_neighbours_are_not",
)
class StrikesNobody(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        return super().recover_consumer(consumer)


@MUTANTS.caught_by("test_what_was_struck_is_held_back_and_its_neighbours_are_not")
class HoldsBackAll(MemoryBroker):
    """Holds the neighbours back with what was struck."""

    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        longest_s = max(struck.values(), default=0.0)
        for one in self.held(consumer) if longest_s else ():
            if one.receipt not in struck:
                self.nack([one], delay_s=longest_s)
        return super().recover_consumer(consumer, struck=struck)


@MUTANTS.caught_by("test_what_was_struck_comes_back_at_its_time")
class LosesTheStruck(MemoryBroker):
    """Loses alone what nobody else was held with."""

    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        held = self.held(consumer)
        if len(held) == 1 and any(struck.values()):
            self.ack(held)
        return super().recover_consumer(consumer, struck=struck)


@MUTANTS.caught_by(
    "test_recovered_messages_come_back_at_their_old_place",
    "test_what_was_running_gets_a_strike_each_time",
    "test_what_was_struck_comes_back_at_its_time",
    "test_what_was_struck_is_held_back_and_its_neighbours_are_not",
)
class RecoversToTheEnd(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        for entry in self._store.held_by(consumer):
            del self._store._held[entry.receipt]
            del self._store._holdings[consumer][entry.receipt]
            entry.number = next(self._store._numbers)
            entry.receipt = str(entry.number)
            self._store._held[entry.receipt] = entry
            self._store._holdings[consumer][entry.receipt] = entry
        return super().recover_consumer(consumer, struck=struck)


@MUTANTS.caught_by("test_recovery_wakes_a_waiting_receive")
class RecoversWithoutWaking(MemoryBroker):
    def recover_consumer(self, consumer, *, struck={}):  # noqa: B006
        with self._changed:
            return self._store.recover(consumer, self._clock.time(), struck=struck)


@MUTANTS.caught_by("test_leaving_node_gives_back_what_its_consumers_hold_and_no_more")
class LeavesNothing(MemoryBroker):
    def leave(self, node):
        pass


@MUTANTS.caught_by("test_leaving_node_gives_back_what_its_consumers_hold_and_no_more")
class LeavesForAll(MemoryBroker):
    def leave(self, node):
        for name in list(self._store._leases):
            super().leave(name)


@MUTANTS.caught_by("test_node_can_leave_twice")
class LeavesOnce(MemoryBroker):
    def leave(self, node):
        del self._store._leases[node]
        super().leave(node)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
