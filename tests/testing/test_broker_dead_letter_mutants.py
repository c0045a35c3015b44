"""Each test of the dead letter part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from umbel.builtin.details import write_details
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.errors import QueueFullError
from umbel_testing import BrokerSuite
from umbel_testing.broker_dead_letter_suite import BrokerDeadLetterSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerDeadLetterSuite, make_broker)


class Broken(MemoryBroker):
    """A memory broker whose parts are easy to break."""

    def entries(self, deliveries):
        """Return the entries of what is held, whatever the tokens say."""
        held = self._store._held
        return [held[one.receipt] for one in deliveries if one.receipt in held]

    def is_dead(self, receipt):
        return receipt in self._store._dead


@MUTANTS.caught_by(
    "test_buried_message_is_a_dead_letter_with_its_reason",
    "test_dead_letters_are_listed_by_queue_or_all_together",
    "test_dead_letters_come_newest_first_in_pages",
)
class BuriesWithoutReason(Broken):
    def bury(self, burials):
        super().bury([one._replace(reason="") for one in burials])


@MUTANTS.caught_by(
    "test_buried_message_is_a_dead_letter_with_its_reason",
    "test_buried_message_is_neither_held_nor_received_again",
    "test_dead_letter_is_not_known",
    "test_dead_letter_tells_its_kind_and_details",
    "test_dead_letters_are_listed_by_queue_or_all_together",
    "test_dead_letters_come_newest_first_in_pages",
    "test_dropped_dead_letters_are_gone_and_the_others_stay",
    "test_failed_replay_sends_nothing_and_keeps_the_dead_letters",
    "test_replay_keeps_to_no_bound",
    "test_replay_of_what_is_not_there_tells_so_and_sends_the_others",
    "test_replayed_message_takes_the_place_of_its_dead_letter",
)
class LosesTheDead(Broken):
    def bury(self, burials):
        self.ack([one.delivery for one in burials])


@MUTANTS.caught_by("test_buried_message_is_neither_held_nor_received_again")
class BuriesTheLiving(Broken):
    def bury(self, burials):
        entries = self.entries([one.delivery for one in burials])
        super().bury(burials)
        for entry in entries:
            self._store._queue(entry.queue).add(entry, self._clock.time())


@MUTANTS.caught_by("test_late_burial_is_passed_over")
class BuriesWhateverTheToken(Broken):
    def bury(self, burials):
        for one in burials:
            for entry in self.entries([one.delivery]):
                self._store.bury(
                    entry, one.reason, one.kind, write_details(one), self._clock.time()
                )


@MUTANTS.caught_by(
    "test_dead_letters_are_listed_by_queue_or_all_together",
    "test_dead_letters_come_newest_first_in_pages",
)
class ListsTheOldestDeadFirst(Broken):
    def dead_letters(self, queue=None, *, limit=100, offset=0):
        letters = super().dead_letters(queue, limit=10**6)
        return list(reversed(letters))[offset : offset + limit]


@MUTANTS.caught_by("test_dead_letters_are_listed_by_queue_or_all_together")
class ListsTheDeadOfAllQueues(Broken):
    def dead_letters(self, queue=None, *, limit=100, offset=0):
        return super().dead_letters(limit=limit, offset=offset)


@MUTANTS.caught_by("test_dead_letter_tells_its_kind_and_details")
class ForgetsTheDetails(Broken):
    def bury(self, burials):
        super().bury([one._replace(details={}) for one in burials])


@MUTANTS.caught_by("test_dead_letter_tells_its_kind_and_details")
class KnowsOneKindOfDeath(Broken):
    def bury(self, burials):
        super().bury([one._replace(kind="malformed") for one in burials])


@MUTANTS.caught_by("test_dropped_dead_letters_are_gone_and_the_others_stay")
class DropsAllThatIsDead(Broken):
    def drop_dead(self, receipts):
        count = super().drop_dead(receipts)
        if len(receipts) > 1:
            super().drop_dead([letter.receipt for letter in self.dead_letters(limit=1000)])
        return count


@MUTANTS.caught_by("test_dropped_dead_letters_are_gone_and_the_others_stay")
class CountsWhatItDidNotDrop(Broken):
    def drop_dead(self, receipts):
        super().drop_dead(receipts)
        return len(receipts)


@MUTANTS.caught_by(
    "test_replay_keeps_to_no_bound",
    "test_replayed_message_takes_the_place_of_its_dead_letter",
)
class KeepsWhatItReplays(Broken):
    def replay(self, replays):
        there = [one for one in replays if self.is_dead(one[0])]
        self.send([message for _, message in there])
        return [receipt for receipt, _ in replays if not self.is_dead(receipt)]


@MUTANTS.caught_by(
    "test_dead_letter_is_replayed_once_by_one_winner",
    "test_replay_of_what_is_not_there_tells_so_and_sends_the_others",
)
class ReplaysWhatIsGone(Broken):
    def replay(self, replays):
        gone = super().replay(replays)
        self.send([message for receipt, message in replays if receipt in gone])
        return gone


@MUTANTS.caught_by("test_replay_of_what_is_not_there_tells_so_and_sends_the_others")
class ReplaysAllOrNothing(Broken):
    def replay(self, replays):
        gone = [receipt for receipt, _ in replays if not self.is_dead(receipt)]
        return gone if gone and len(gone) < len(replays) else super().replay(replays)


@MUTANTS.caught_by("test_dead_letter_is_replayed_once_by_one_winner")
class ReplaysAfterALook(Broken):
    barrier = None

    def replay(self, replays):
        there = [one for one in replays if self.is_dead(one[0])]
        if len(replays) == 5:  # all have looked before the first one acts
            type(self).barrier = type(self).barrier or threading.Barrier(4)
            with suppress(threading.BrokenBarrierError):
                self.barrier.wait(5)
        gone = super().replay(replays)
        late = [one for one in there if one[0] in gone]
        self.send([message for _, message in late])
        return [receipt for receipt in gone if receipt not in dict(late)]


@MUTANTS.caught_by("test_failed_replay_sends_nothing_and_keeps_the_dead_letters")
class ReplaysOneByOne(Broken):
    def replay(self, replays):
        return [gone for one in replays for gone in MemoryBroker.replay(self, [one])]


@MUTANTS.caught_by(
    "test_failed_replay_sends_nothing_and_keeps_the_dead_letters",
    "test_replay_keeps_to_no_bound",
)
class DropsBeforeItSends(Broken):
    def replay(self, replays):
        there = [one for one in replays if self.is_dead(one[0])]
        gone = [receipt for receipt, _ in replays if not self.is_dead(receipt)]
        with self._changed:
            for receipt, _ in there:
                self._store.unbury(receipt)
        self.send([message for _, message in there])
        return gone


@MUTANTS.caught_by("test_replay_wakes_who_waits_for_the_queue")
class ReplaysInSilence(Broken):
    def replay(self, replays):
        notify, self._changed.notify_all = self._changed.notify_all, lambda: None
        try:
            return super().replay(replays)
        finally:
            self._changed.notify_all = notify


@MUTANTS.caught_by("test_replay_keeps_to_no_bound")
class ReplaysIntoTheBound(Broken):
    def replay(self, replays):
        for _, message in replays:
            if message.queue in self.bounds:
                raise QueueFullError(message.queue)
        return super().replay(replays)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
