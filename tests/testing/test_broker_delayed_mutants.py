"""Each test of the part of `BrokerSuite` about the delayed catches a fault in a sound broker."""

from __future__ import annotations

import time
from itertools import count

import pytest
from msgspec.structs import replace

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.envelopes import read
from umbel.builtin.memory.space import Space
from umbel.messages import Delayed
from umbel_testing import BrokerSuite
from umbel_testing.broker_delayed_suite import BrokerDelayedSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerDelayedSuite, make_broker)


@MUTANTS.caught_by(
    "test_delayed_goes_by_queue_or_through_all_in_pages",
    "test_delayed_lists_what_waits_the_next_due_first",
)
class ListsTheLastDueFirst(MemoryBroker):
    def delayed(self, queue=None, *, limit=100, offset=0):
        found = super().delayed(queue, limit=100_000)
        return found[::-1][offset : offset + limit]


@MUTANTS.caught_by("test_delayed_lists_what_waits_the_next_due_first")
class ListsInOrderOfSending(MemoryBroker):
    def delayed(self, queue=None, *, limit=100, offset=0):
        found = super().delayed(queue, limit=100_000)
        found.sort(key=lambda one: int(one.receipt))
        return found[offset : offset + limit]


@MUTANTS.caught_by(
    "test_delayed_lists_what_was_given_back_for_later",
    "test_delayed_lists_what_waits_the_next_due_first",
)
class TellsNoTime(MemoryBroker):
    def delayed(self, queue=None, **how):
        return [replace(one, due_at=0.0) for one in super().delayed(queue, **how)]


@MUTANTS.caught_by("test_delayed_goes_by_queue_or_through_all_in_pages")
class ListsTheFirstPageOnly(MemoryBroker):
    def delayed(self, queue=None, *, limit=100, offset=0):
        return super().delayed(queue, limit=limit)


@MUTANTS.caught_by("test_delayed_goes_by_queue_or_through_all_in_pages")
class ListsOneQueueAfterTheOther(MemoryBroker):
    def delayed(self, queue=None, *, limit=100, offset=0):
        found = super().delayed(queue, limit=100_000)
        found.sort(key=lambda one: one.queue)
        return found[offset : offset + limit]


@MUTANTS.caught_by("test_delayed_lists_what_was_given_back_for_later")
class ListsByTheMessagesTime(MemoryBroker):
    def delayed(self, queue=None, **how):
        return [one for one in super().delayed(queue, **how) if one.message.due_at]


@MUTANTS.caught_by(
    "test_delayed_lists_what_waits_the_next_due_first",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_what_is_due_is_not_delayed_any_more",
)
class ListsTheReady(MemoryBroker):
    def delayed(self, queue=None, *, limit=100, offset=0):
        with self._changed:
            now = self._clock.time()
            waiting = [] if queue is None else self._store.waiting(queue, now)
            found = [
                Delayed(message=read(one), queue=queue, due_at=one.ready_at, receipt=one.receipt)
                for one in waiting
            ]
        return found[offset : offset + limit] or super().delayed(queue, limit=limit, offset=offset)


@MUTANTS.caught_by("test_what_is_due_is_not_delayed_any_more")
class DropsTheDue(MemoryBroker):
    def drop_delayed(self, receipts):
        dropped = super().drop_delayed(receipts)
        with self._changed:
            for queue in self._store._queues.values():
                kept = [item for item in queue._ready if not self._is_due(item[2], receipts)]
                dropped += len(queue._ready) - len(kept)
                queue._ready = kept
        return dropped

    def _is_due(self, entry, receipts):
        due_at = read(entry).due_at
        return entry.receipt in receipts and due_at and due_at <= self._clock.time()


@MUTANTS.caught_by(
    "test_message_promoted_by_many_threads_comes_once",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class PromotesWithoutCounting(MemoryBroker):
    def promote(self, receipts):
        super().promote(receipts)
        return 0


@MUTANTS.caught_by(
    "test_message_promoted_by_many_threads_comes_once",
    "test_promoted_message_is_as_it_was_sent",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_promoted_message_stays_known",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_waiting_receive_is_woken_by_promote",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class PromotesNothing(MemoryBroker):
    def promote(self, receipts):
        known = {one.receipt for one in self.delayed(limit=1000)}
        return len(known.intersection(receipts))


@MUTANTS.caught_by("test_promoted_message_is_as_it_was_sent")
class PromotesAnotherMessage(MemoryBroker):
    """It takes the time out of the message."""

    def receive(self, queues, **how):
        return [
            replace(one, message=replace(one.message, due_at=None))
            if (getattr(one.message, "due_at", None) or 0) > self._clock.time() and one.token == 1
            else one
            for one in super().receive(queues, **how)
        ]


@MUTANTS.caught_by("test_waiting_receive_is_woken_by_promote")
class PromotesInSilence(MemoryBroker):
    def promote(self, receipts):
        with self._changed:
            return self._store.promote(frozenset(receipts), self._clock.time())


@MUTANTS.caught_by("test_promoted_message_that_is_given_back_stays_ready")
class DelaysTheGivenBackAnew(MemoryBroker):
    def nack(self, deliveries, *, delay_s=0.0):
        for one in deliveries:
            later = (getattr(one.message, "due_at", None) or 0.0) - self._clock.time()
            super().nack([one], delay_s=max(delay_s, later, 0.0))


@MUTANTS.caught_by("test_what_is_not_delayed_is_neither_promoted_nor_dropped")
class PromotesTheHeld(MemoryBroker):
    def promote(self, receipts):
        held = [one for one in receipts if one in self._store._held]
        return len(held) + super().promote(receipts)


@MUTANTS.caught_by("test_message_promoted_by_many_threads_comes_once")
class PromotesInTwoSteps(MemoryBroker):
    def promote(self, receipts):
        known = {one.receipt for one in self.delayed(limit=1000)}.intersection(receipts)
        if known:
            time.sleep(0.05)
        super().promote(receipts)
        return len(known)


@MUTANTS.caught_by(
    "test_dropped_message_can_be_sent_once_again",
    "test_dropped_message_is_gone_for_good",
)
class DropsNothing(MemoryBroker):
    def drop_delayed(self, receipts):
        known = {one.receipt for one in self.delayed(limit=1000)}
        return len(known.intersection(receipts))


@MUTANTS.caught_by("test_dropped_message_is_gone_for_good")
class DropsTheQueue(MemoryBroker):
    def drop_delayed(self, receipts):
        dropped = super().drop_delayed(receipts)
        if dropped:
            super().drop_delayed([one.receipt for one in self.delayed(limit=1000)])
        return dropped


@MUTANTS.caught_by("test_dropped_message_can_be_sent_once_again")
class RemembersTheDropped(MemoryBroker):
    def drop_delayed(self, receipts):
        with self._changed:
            return len(self._store._pull(frozenset(receipts), self._clock.time()))


@MUTANTS.caught_by("test_promoted_message_stays_known")
class ForgetsThePromoted(MemoryBroker):
    def promote(self, receipts):
        with self._changed:
            for one in self._store.delayed(None, self._clock.time()):
                if one.receipt in receipts:
                    self._store.sent.forget(one)
                    one.once_key = None if one.once_key is None else f"{next(NUMBERS)}"
        return super().promote(receipts)


NUMBERS = count()


@MUTANTS.caught_by("test_promoted_message_of_a_paused_queue_waits")
class ResumesByPromoting(MemoryBroker):
    def promote(self, receipts):
        self._store.paused.clear()
        return super().promote(receipts)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
