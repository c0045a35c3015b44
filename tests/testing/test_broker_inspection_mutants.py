"""Each test of the inspection part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import msgspec
import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.envelopes import read as _read
from umbel.builtin.memory.space import Space
from umbel.messages import QueueStats
from umbel_testing import BrokerSuite
from umbel_testing.broker_inspection_suite import BrokerInspectionSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerInspectionSuite, make_broker)


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


@MUTANTS.caught_by("test_unknown_queue_is_empty")
class KnowsUnknownQueues(Broken):
    def stats(self, queue):
        self._store._queue(queue)
        return super().stats(queue)


@MUTANTS.caught_by("test_stats_count_the_ready_and_the_held")
class CountsTheHeldAsReady(Broken):
    def stats(self, queue):
        stats = super().stats(queue)
        return msgspec.structs.replace(stats, ready=stats.ready + stats.held, held=0)


@MUTANTS.caught_by(
    "test_dropped_message_is_gone_for_good",
    "test_promoted_message_is_ready_at_once",
    "test_stats_count_the_delayed_apart_until_they_are_due",
)
class CountsTheDelayedAsReady(Broken):
    def stats(self, queue):
        stats = super().stats(queue)
        return msgspec.structs.replace(stats, ready=stats.ready + stats.delayed, delayed=0)


@MUTANTS.caught_by("test_oldest_age_grows_while_something_is_ready")
class KnowsNoAge(Broken):
    def stats(self, queue):
        return msgspec.structs.replace(super().stats(queue), oldest_age_s=None)


@MUTANTS.caught_by(
    "test_dropped_message_is_gone_for_good",
    "test_oldest_age_grows_while_something_is_ready",
)
class TellsTheAgeOfTheNewest(Broken):
    def stats(self, queue):
        stats = super().stats(queue)
        ages = [
            self._clock.time() - one.ready_at
            for one in self._store.waiting(queue, self._clock.time())
        ]
        return msgspec.structs.replace(stats, oldest_age_s=min(ages, default=None))


@MUTANTS.caught_by("test_queues_names_all_that_hold_or_held_messages_sorted")
class ForgetsEmptyQueues(Broken):
    def queues(self):
        return [name for name in super().queues() if self.stats(name) != QueueStats(name=name)]


@MUTANTS.caught_by("test_queues_names_all_that_hold_or_held_messages_sorted")
class ListsQueuesUnsorted(Broken):
    def queues(self):
        return list(reversed(super().queues()))


@MUTANTS.caught_by(
    "test_paused_queue_takes_what_is_sent",
    "test_peek_shows_the_delayed_after_the_ready_the_next_due_first",
    "test_peek_shows_what_comes_next_and_takes_nothing",
    "test_promoted_message_is_ready_at_once",
)
class PeeksByTaking(Broken):
    def peek(self, queue, *, limit=10, offset=0):
        got = self.receive([queue], max_messages=limit + offset, wait_s=0)
        self.nack(got)
        return [one.message for one in got[offset:]]


@MUTANTS.caught_by(
    "test_peek_shows_the_delayed_after_the_ready_the_next_due_first",
    "test_peek_shows_what_comes_next_and_takes_nothing",
)
class PeeksInOrderOfSending(Broken):
    def peek(self, queue, *, limit=10, offset=0):
        with self._changed:
            waiting = self._store.waiting(queue, self._clock.time())
            entries = sorted(waiting, key=lambda entry: entry.number)
        return [_read(entry) for entry in entries[offset : offset + limit]]


@MUTANTS.caught_by("test_peek_goes_through_a_queue_in_pages")
class PeeksTheFirstPageOnly(Broken):
    def peek(self, queue, *, limit=10, offset=0):
        return super().peek(queue, limit=limit)


@MUTANTS.caught_by(
    "test_peek_shows_the_delayed_after_the_ready_the_next_due_first",
    "test_promoted_message_is_ready_at_once",
)
class PeeksAtTheReadyOnly(MemoryBroker):
    def peek(self, queue, *, limit=10, offset=0):
        return super().peek(queue, limit=min(limit, self.stats(queue).ready), offset=offset)


@MUTANTS.caught_by("test_peek_leaves_out_what_is_held")
class PeeksAtTheHeld(Broken):
    def peek(self, queue, *, limit=10, offset=0):
        held = [_read(one) for one in self._store._held.values() if one.queue == queue]
        return [*held, *super().peek(queue, limit=limit, offset=offset)][:limit]


@MUTANTS.caught_by("test_purge_drops_what_waits_and_counts_it")
class PurgesEverything(Broken):
    def purge(self, queue):
        return sum(super(Broken, self).purge(name) for name in self._store.names())


@MUTANTS.caught_by(
    "test_purge_drops_the_delayed_too",
    "test_purge_drops_what_waits_and_counts_it",
)
class PurgesNothing(Broken):
    def purge(self, queue):
        return self.stats(queue).ready


@MUTANTS.caught_by("test_purge_drops_the_delayed_too")
class PurgesTheReadyOnly(Broken):
    def purge(self, queue):
        later = self._store._queue(queue)._later
        kept = list(later)
        count = super().purge(queue)
        later.extend(kept)
        return count - len(kept)


@MUTANTS.caught_by("test_purge_leaves_the_held_to_their_holder")
class PurgesTheHeld(Broken):
    def purge(self, queue):
        with self._changed:
            for entry in [one for one in self._store._held.values() if one.queue == queue]:
                self._store.drop(entry)
        return super().purge(queue)


@MUTANTS.caught_by("test_broker_declares_its_capabilities")
class DeclaresWhatDoesNotExist(Broken):
    capabilities = MemoryBroker.capabilities | {"telepathy"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
