"""Each test of the delay part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.errors import BrokerError
from umbel_testing import BrokerSuite
from umbel_testing.broker_delay_suite import BrokerDelaySuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerDelaySuite, make_broker)


@MUTANTS.caught_by(
    "test_delayed_goes_by_queue_or_through_all_in_pages",
    "test_delayed_lists_what_waits_the_next_due_first",
    "test_delayed_message_does_not_hold_up_those_behind_it",
    "test_delayed_message_is_known",
    "test_delayed_message_waits_for_its_time",
    "test_delayed_messages_come_each_at_its_own_time",
    "test_dropped_message_can_be_sent_once_again",
    "test_dropped_message_is_gone_for_good",
    "test_peek_shows_the_delayed_after_the_ready_the_next_due_first",
    "test_promoted_message_is_as_it_was_sent",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_stats_count_the_delayed_apart_until_they_are_due",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class SendsTheDelayedAtOnce(MemoryBroker):
    def _put(self, messages, raws, **how):
        super()._put([replace(one, due_at=None) for one in messages], raws, **how)


@MUTANTS.caught_by(
    "test_delayed_goes_by_queue_or_through_all_in_pages",
    "test_delayed_lists_what_waits_the_next_due_first",
    "test_delayed_message_does_not_hold_up_those_behind_it",
    "test_delayed_messages_come_each_at_its_own_time",
    "test_delayed_messages_count",
    "test_dropped_message_is_gone_for_good",
    "test_peek_shows_the_delayed_after_the_ready_the_next_due_first",
    "test_promoted_message_is_as_it_was_sent",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_stats_count_the_delayed_apart_until_they_are_due",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class DelaysForADayAtMost(MemoryBroker):
    def send(self, messages):
        if any((one.due_at or 0) > self._clock.time() + 86400 for one in messages):
            raise BrokerError("too far ahead")
        super().send(messages)


@MUTANTS.caught_by(
    "test_message_due_in_the_past_comes_at_once",
    "test_message_with_every_field_set_comes_back_equal",
)
class DropsThePast(MemoryBroker):
    def send(self, messages):
        now = self._clock.time()
        super().send([one for one in messages if one.due_at is None or one.due_at > now])


@MUTANTS.caught_by("test_delayed_message_does_not_hold_up_those_behind_it")
class LetsTheDelayedHoldUpTheRest(MemoryBroker):
    def receive(self, queues, **how):
        with self._changed:
            blocked = any(
                entry.ready_at > self._clock.time() and entry.priority
                for queue in queues
                for entry in self._store.waiting(queue, self._clock.time())
            )
        return [] if blocked else super().receive(queues, **how)


@MUTANTS.caught_by(
    "test_delayed_lists_what_was_given_back_for_later",
    "test_message_nacked_with_a_delay_comes_back_after_it",
)
class GivesBackWithoutDelay(MemoryBroker):
    def nack(self, deliveries, *, delay_s=0.0):
        super().nack(deliveries)


@MUTANTS.caught_by(
    "test_delayed_lists_what_was_given_back_for_later",
    "test_message_nacked_with_a_delay_comes_back_after_it",
    "test_message_nacked_with_a_delay_keeps_its_place_among_the_ready",
)
class GivesBackLate(MemoryBroker):
    def nack(self, deliveries, *, delay_s=0.0):
        super().nack(deliveries, delay_s=delay_s * 2)


@MUTANTS.caught_by("test_waiting_receive_gets_a_message_at_its_time")
class SleepsThroughTheDue(MemoryBroker):
    def receive(self, queues, *, max_messages, wait_s):
        with self._changed:
            later = self._store.next_at(queues)
        if later is not None and wait_s > 1:
            time.sleep(LONG_S)
        return super().receive(queues, max_messages=max_messages, wait_s=wait_s)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
