"""Each test of the settling part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

from typing import ClassVar

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.errors import BrokerError
from umbel_testing import BrokerSuite
from umbel_testing.broker_settling_suite import BrokerSettlingSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerSettlingSuite, make_broker)


class Broken(MemoryBroker):
    """A memory broker whose parts are easy to break."""

    def entries(self, deliveries):
        """Return the entries of what is held, whatever the tokens say."""
        held = self._store._held
        return [held[one.receipt] for one in deliveries if one.receipt in held]

    def requeue(self, entries, **how):
        for entry in entries:
            self._store.give_back(entry, self._clock.time(), **how)
        self._changed.notify_all()


@MUTANTS.caught_by(
    "test_ack_tells_the_lost_from_the_held",
    "test_acked_message_is_gone",
    "test_any_handle_may_ack",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_part_of_a_batch_can_be_acked",
    "test_pause_leaves_the_held_to_their_holder",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_stays_known",
    "test_replace_of_what_is_finished_sends_it_anew",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_stats_count_the_ready_and_the_held",
)
class KeepsWhatIsAcked(Broken):
    def _ack(self, deliveries):
        entries = self.entries(deliveries)
        lost = super()._ack(deliveries)
        for entry in entries:
            if entry.consumer is None:
                self._store._queue(entry.queue).add(entry, self._clock.time())
        return lost


@MUTANTS.caught_by(
    "test_expired_lease_gives_deliveries_back_once",
    "test_finished_message_is_known_for_the_window_alone",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_late_ack_is_refused_and_leaves_the_new_holder_its_message",
    "test_leaving_node_gives_back_what_its_consumers_hold_and_no_more",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_promoted_message_stays_known",
)
class AcksWhateverTheToken(Broken):
    def _ack(self, deliveries):
        entries = self.entries(deliveries)
        for entry in entries:
            self._store.drop(entry)
        receipts = {entry.receipt for entry in entries}
        return [one for one in deliveries if one.receipt not in receipts]


@MUTANTS.caught_by(
    "test_ack_after_recovery_is_refused_even_if_nobody_took_over",
    "test_ack_of_what_was_given_back_is_refused_and_changes_nothing",
    "test_ack_tells_the_lost_from_the_held",
    "test_buried_message_is_neither_held_nor_received_again",
    "test_consumer_is_recovered_at_once_and_its_neighbours_keep_theirs",
    "test_expired_lease_gives_deliveries_back_once",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_late_ack_is_refused_and_leaves_the_new_holder_its_message",
    "test_leaving_node_gives_back_what_its_consumers_hold_and_no_more",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_second_ack_is_refused",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
    "test_settle_sends_the_follow_ups_and_acks",
    "test_settle_without_follow_ups_acks",
)
class NeverTellsWhatIsLost(Broken):
    def _ack(self, deliveries):
        super()._ack(deliveries)
        return []


@MUTANTS.caught_by(
    "test_ack_tells_the_lost_from_the_held",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
)
class AcksAllOrNothing(Broken):
    def _ack(self, deliveries):
        if any(self._store.holds(one.receipt, one.token) is None for one in deliveries):
            return list(deliveries)
        return super()._ack(deliveries)


@MUTANTS.caught_by(
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_held_leaves_out_what_was_settled",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_part_of_a_batch_can_be_acked",
    "test_pause_leaves_the_held_to_their_holder",
    "test_purge_leaves_the_held_to_their_holder",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_stats_count_the_ready_and_the_held",
)
class AcksEverythingHeld(Broken):
    def _ack(self, deliveries):
        lost = super()._ack(deliveries)
        for entry in self._store.held_by(self._consumer) if deliveries else ():
            self._store.drop(entry)
        return lost


@MUTANTS.caught_by(
    "test_any_handle_may_ack",
    "test_node_that_was_taken_over_is_told_so_and_begins_anew",
    "test_what_held_returns_can_be_acked_by_another_handle",
)
class AcksForTheHolderOnly(Broken):
    def _ack(self, deliveries):
        own = {entry.receipt for entry in self._store.held_by(self._consumer)}
        super()._ack([one for one in deliveries if one.receipt in own])
        return [one for one in deliveries if one.receipt not in own]


@MUTANTS.caught_by(
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_second_ack_is_refused",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_sends_the_follow_ups_and_acks",
    "test_settle_without_follow_ups_acks",
)
class FindsWhatIsAckedAgain(Broken):
    """Counts a second ack as done."""

    done: ClassVar[set] = set()

    def _ack(self, deliveries):
        lost = [
            one for one in super()._ack(deliveries) if (one.message.id, one.token) not in self.done
        ]
        self.done.update((one.message.id, one.token) for one in deliveries if one not in lost)
        return lost


@MUTANTS.caught_by("test_late_nack_is_passed_over")
class GivesBackWhateverTheToken(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            self.requeue(self.entries(deliveries), delay_s=delay_s)


@MUTANTS.caught_by(
    "test_message_nacked_with_a_delay_keeps_its_place_among_the_ready",
    "test_nacked_message_comes_back_at_its_old_place",
)
class GivesBackToTheEnd(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            for one in deliveries:
                entry = self._store.holds(one.receipt, one.token)
                if entry is not None:
                    self._store._release(entry)
                    entry.number = next(self._store._numbers)
                    entry.receipt = str(entry.number)
                    entry.ready_at = self._clock.time() + delay_s
                    self._store._queue(entry.queue).add(entry, self._clock.time())
            self._changed.notify_all()


@MUTANTS.caught_by("test_message_nacked_with_a_delay_keeps_its_place_among_the_ready")
class GivesTheDelayedBackToTheEnd(GivesBackToTheEnd):
    def nack(self, deliveries, *, delay_s=0.0):
        how = super() if delay_s else MemoryBroker
        if delay_s:
            how.nack(deliveries, delay_s=delay_s)
        else:
            MemoryBroker.nack(self, deliveries)


@MUTANTS.caught_by(
    "test_message_nacked_with_a_delay_comes_back_after_it",
    "test_nacked_message_comes_back_equal_with_a_higher_token_and_no_strike",
)
class CountsGivingBackAsAStrike(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            live = [self._store.holds(one.receipt, one.token) for one in deliveries]
            self.requeue([one for one in live if one], delay_s=delay_s, struck=True)


@MUTANTS.caught_by(
    "test_buried_message_is_a_dead_letter_with_its_reason",
    "test_late_ack_is_refused_and_leaves_the_new_holder_its_message",
    "test_late_burial_is_passed_over",
    "test_late_nack_is_passed_over",
    "test_message_nacked_with_a_delay_comes_back_after_it",
    "test_nacked_message_comes_back_equal_with_a_higher_token_and_no_strike",
    "test_promoted_message_that_is_given_back_stays_ready",
)
class KeepsTheToken(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            live = [self._store.holds(one.receipt, one.token) for one in deliveries]
            live = [one for one in live if one]
            self.requeue(live, delay_s=delay_s)
            for entry in live:
                entry.token -= 1


@MUTANTS.caught_by("test_settling_nothing_does_nothing")
class GivesBackAllForNothing(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        super().nack(deliveries or self.held(self._consumer), delay_s=delay_s)


@MUTANTS.caught_by("test_waiting_receive_is_woken_by_what_is_given_back")
class NacksWithoutWaking(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            for one in deliveries:
                entry = self._store.holds(one.receipt, one.token)
                if entry is not None:
                    self._store.give_back(entry, self._clock.time(), delay_s=delay_s)


@MUTANTS.caught_by("test_nacked_batch_keeps_its_priorities")
class LosesThePriorityOfWhatIsGivenBack(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        for entry in self.entries(deliveries):
            entry.priority = 0
        super().nack(deliveries, delay_s=delay_s)


@MUTANTS.caught_by(
    "test_failed_settle_and_receive_keeps_all_deliveries",
    "test_failed_settle_keeps_the_delivery_and_atomically_sends_nothing",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_follow_ups_go_beyond_the_bound",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
    "test_settle_sends_the_follow_ups_and_acks",
)
class DropsFollowUps(Broken):
    def settle(self, deliveries, follow_ups):
        return self.ack(deliveries)


@MUTANTS.caught_by(
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_follow_ups_go_beyond_the_bound",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
    "test_settle_sends_the_follow_ups_and_acks",
    "test_settle_without_follow_ups_acks",
)
class SettlesWithoutAck(Broken):
    def settle(self, deliveries, follow_ups):
        self.send(follow_ups)
        return []


@MUTANTS.caught_by(
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_without_follow_ups_acks",
)
class SettlesOnlyWithFollowUps(Broken):
    def settle(self, deliveries, follow_ups):
        return super().settle(deliveries, follow_ups) if follow_ups else []


@MUTANTS.caught_by(
    "test_failed_settle_and_receive_keeps_all_deliveries",
    "test_failed_settle_keeps_the_delivery_and_atomically_sends_nothing",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_ups_go_beyond_the_bound",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
    "test_settle_of_a_lost_delivery_tells_so_and_sends_all_the_same",
)
class DropsFollowUpsOfTheLost(Broken):
    def settle(self, deliveries, follow_ups):
        lost = self.ack(deliveries)
        if not lost:
            self.send(follow_ups)
        return lost


@MUTANTS.caught_by(
    "test_failed_settle_and_receive_keeps_all_deliveries",
    "test_failed_settle_keeps_the_delivery_and_atomically_sends_nothing",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_follow_ups_go_beyond_the_bound",
)
class AcksBeforeItSends(Broken):
    def settle(self, deliveries, follow_ups):
        lost = self.ack(deliveries)
        self.send(follow_ups)
        return lost


@MUTANTS.caught_by("test_settle_and_receive_acks_and_takes_what_is_next_at_most")
class TakesMoreThanItMay(Broken):
    def settle_and_receive(self, deliveries, follow_ups, queues, *, max_messages):
        lost = self.settle(deliveries, follow_ups)
        return lost, self.receive(queues, max_messages=max_messages + 1, wait_s=0)


@MUTANTS.caught_by(
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
    "test_settle_and_receive_tells_the_lost_and_sends_all_the_same",
)
class ForgetsWhatItHasTaken(Broken):
    def settle_and_receive(self, deliveries, follow_ups, queues, *, max_messages):
        lost = self.settle(deliveries, follow_ups)
        return lost, self.receive(queues, max_messages=max_messages, wait_s=0)[1:]


@MUTANTS.caught_by("test_settle_and_receive_tells_the_lost_and_sends_all_the_same")
class TellsNothingOfTheLost(Broken):
    def settle_and_receive(self, deliveries, follow_ups, queues, *, max_messages):
        self.settle(deliveries, follow_ups)
        return (), self.receive(queues, max_messages=max_messages, wait_s=0)


@MUTANTS.caught_by("test_failed_settle_and_receive_keeps_all_deliveries")
class AcksThoughItCannotSend(Broken):
    def settle_and_receive(self, deliveries, follow_ups, queues, *, max_messages):
        try:
            return self.settle(deliveries, follow_ups), ()
        except BrokerError:
            self.ack(deliveries)
            raise


@MUTANTS.caught_by("test_failed_settle_and_receive_keeps_all_deliveries")
class TakesBeforeItSettles(Broken):
    def settle_and_receive(self, deliveries, follow_ups, queues, *, max_messages):
        taken = self.receive(queues, max_messages=max_messages, wait_s=0)
        return self.settle(deliveries, follow_ups), taken


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
