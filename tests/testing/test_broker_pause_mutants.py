"""Each test of the pause part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel_testing import BrokerSuite
from umbel_testing.broker_pause_suite import BrokerPauseSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerPauseSuite, make_broker)

HANDED_OUT = (
    "test_delayed_message_of_a_paused_queue_waits_on_when_it_is_due",
    "test_pause_leaves_the_held_to_their_holder",
    "test_pause_outlives_the_handle_that_made_it",
    "test_paused_queue_does_not_hold_up_others",
    "test_paused_queue_hands_out_nothing_to_anybody",
    "test_paused_queue_takes_what_is_sent",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_waiting_receive_gets_nothing_out_of_a_paused_queue",
    "test_waiting_receive_is_woken_by_resume",
    "test_waiting_receive_takes_one_at_most_after_a_pause",
    "test_what_a_dead_consumer_held_of_a_paused_queue_waits",
)


@MUTANTS.caught_by(*HANDED_OUT)
class PausesInNameOnly(MemoryBroker):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self._said = vars(self._store).setdefault("said", set())

    def pause(self, queue):
        self._said.add(queue)

    def resume(self, queue):
        self._said.discard(queue)

    def paused(self):
        return sorted(self._said)


@MUTANTS.caught_by(
    "test_pause_outlives_the_handle_that_made_it",
    "test_paused_queue_hands_out_nothing_to_anybody",
    "test_waiting_receive_takes_one_at_most_after_a_pause",
)
class PausesForItselfAlone(MemoryBroker):
    """It knows of all pauses, and keeps to its own."""

    def __init__(self, space, clock):
        super().__init__(space, clock)
        self._own = set()

    def pause(self, queue):
        super().pause(queue)
        self._own.add(queue)

    def resume(self, queue):
        super().resume(queue)
        self._own.discard(queue)

    def receive(self, queues, **how):
        everybodys = self._store.paused
        self._store.paused = self._own
        try:
            return super().receive(queues, **how)
        finally:
            self._store.paused = everybodys


@MUTANTS.caught_by("test_pause_outlives_the_handle_that_made_it")
class ResumesAtItsEnd(MemoryBroker):
    def close(self):
        for queue in self.paused():
            self.resume(queue)
        super().close()


@MUTANTS.caught_by("test_paused_queue_does_not_hold_up_others")
class PausesAllBehindIt(MemoryBroker):
    def receive(self, queues, **how):
        return [] if queues[0] in self.paused() else super().receive(queues, **how)


@MUTANTS.caught_by("test_pause_leaves_the_held_to_their_holder")
class HandsOutTheGivenBack(MemoryBroker):
    def nack(self, deliveries, *, delay_s=0.0):
        for one in deliveries:
            self._store.paused.discard(one.queue)
        super().nack(deliveries, delay_s=delay_s)


@MUTANTS.caught_by("test_what_a_dead_consumer_held_of_a_paused_queue_waits")
class HandsOutTheRecovered(MemoryBroker):
    def recover_consumer(self, consumer, **how):
        if count := super().recover_consumer(consumer, **how):
            self._store.paused.clear()
        return count


@MUTANTS.caught_by(
    "test_paused_queue_does_not_hold_up_others",
    "test_paused_queue_takes_what_is_sent",
    "test_waiting_receive_gets_nothing_out_of_a_paused_queue",
    "test_waiting_receive_is_woken_by_resume",
    "test_waiting_receive_takes_one_at_most_after_a_pause",
)
class ResumesWithWhatIsSent(MemoryBroker):
    def send(self, messages):
        super().send(messages)
        for one in messages:
            self._store.paused.discard(one.queue)


@MUTANTS.caught_by(
    "test_paused_queue_takes_what_is_sent",
    "test_waiting_receive_is_woken_by_resume",
    "test_waiting_receive_takes_one_at_most_after_a_pause",
)
class LosesWhatIsSentToThePaused(MemoryBroker):
    def send(self, messages):
        super().send([one for one in messages if one.queue not in self.paused()])


@MUTANTS.caught_by("test_waiting_receive_is_woken_by_resume")
class ResumesInSilence(MemoryBroker):
    def resume(self, queue):
        with self._changed:
            self._store.paused.discard(queue)


@MUTANTS.caught_by(
    "test_waiting_receive_gets_nothing_out_of_a_paused_queue",
    "test_waiting_receive_is_woken_by_resume",
)
class WaitsForNothing(MemoryBroker):
    def receive(self, queues, *, max_messages, wait_s):
        if set(queues) <= set(self.paused()):
            wait_s = 0.0
        return super().receive(queues, max_messages=max_messages, wait_s=wait_s)


@MUTANTS.caught_by("test_waiting_receive_takes_one_at_most_after_a_pause")
class TakesOnWhileItWaits(MemoryBroker):
    def pause(self, queue):
        if not self._changed._waiters:
            super().pause(queue)


@MUTANTS.caught_by("test_interrupt_ends_a_waiting_receive_on_a_paused_queue")
class SleepsOnThePaused(MemoryBroker):
    def interrupt(self):
        if not self.paused():
            super().interrupt()


@MUTANTS.caught_by("test_delayed_message_of_a_paused_queue_waits_on_when_it_is_due")
class PausesTheReadyAlone(MemoryBroker):
    def receive(self, queues, **how):
        with self._changed:
            for queue in queues:
                if not self._store.stats(queue, self._clock.time() - 0.4).ready:
                    self._store.paused.discard(queue)
        return super().receive(queues, **how)


@MUTANTS.caught_by("test_paused_names_queues_sorted")
class ListsInNoOrder(MemoryBroker):
    def paused(self):
        return sorted(super().paused(), reverse=True)


@MUTANTS.caught_by("test_pause_and_resume_can_be_repeated")
class CountsPauses(MemoryBroker):
    """As many resumes are needed as there were pauses."""

    def __init__(self, space, clock):
        super().__init__(space, clock)
        self._depth = {}

    def pause(self, queue):
        self._depth[queue] = self._depth.get(queue, 0) + 1
        super().pause(queue)

    def resume(self, queue):
        self._depth[queue] = max(0, self._depth.get(queue, 0) - 1)
        if not self._depth[queue]:
            super().resume(queue)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
