"""Each test of the waiting part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import time

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.errors import BrokerError
from umbel_testing import BrokerSuite
from umbel_testing.broker_waiting_suite import BrokerWaitingSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerWaitingSuite, make_broker)


@MUTANTS.caught_by("test_receive_that_may_not_wait_returns_at_once")
class AlwaysWaits(MemoryBroker):
    def receive(self, queues, *, max_messages, wait_s):
        if "once" in queues[0]:
            time.sleep(0.5)
        return super().receive(queues, max_messages=max_messages, wait_s=wait_s)


@MUTANTS.caught_by("test_receive_waits_no_longer_than_it_may")
class WaitsTooLong(MemoryBroker):
    def receive(self, queues, *, max_messages, wait_s):
        return super().receive(queues, max_messages=max_messages, wait_s=wait_s * 100)


@MUTANTS.caught_by(
    "test_recovery_wakes_a_waiting_receive",
    "test_waiting_receive_is_woken_by_a_message",
    "test_waiting_receive_is_woken_by_what_is_given_back",
)
class WaitsWithoutLooking(MemoryBroker):
    def receive(self, queues, *, max_messages, wait_s):
        got = super().receive(queues, max_messages=max_messages, wait_s=0)
        if not got and wait_s > 1:
            time.sleep(LONG_S)
        return got or super().receive(queues, max_messages=max_messages, wait_s=wait_s)


@MUTANTS.caught_by(
    "test_interrupt_ends_a_waiting_receive_empty",
    "test_interrupted_handle_receives_on",
)
class CannotBeInterrupted(MemoryBroker):
    def interrupt(self):
        pass


@MUTANTS.caught_by("test_interrupt_of_one_handle_leaves_others_waiting")
class InterruptsEverybody(MemoryBroker):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.others = space.messages.__dict__.setdefault("handles", [])
        self.others.append(self)
        self.over = False

    def interrupt(self):
        for handle in self.others:
            handle.over = True
            MemoryBroker.interrupt(handle)

    def receive(self, queues, **how):
        got = super().receive(queues, **how)
        return [] if self.over else got


@MUTANTS.caught_by("test_interrupted_handle_receives_on")
class StaysInterrupted(MemoryBroker):
    over = False

    def interrupt(self):
        self.over = True
        super().interrupt()

    def receive(self, queues, **how):
        return [] if self.over else super().receive(queues, **how)


@MUTANTS.caught_by("test_check_finds_a_working_broker_in_order")
class FailsItsCheck(MemoryBroker):
    def check(self):
        raise BrokerError("always")


@MUTANTS.caught_by("test_check_finds_a_working_broker_in_order")
class EmptiesQueuesToCheck(MemoryBroker):
    def check(self):
        for queue in self._store.names():
            self.purge(queue)


@MUTANTS.caught_by(
    "test_close_can_be_repeated",
    "test_closing_a_handle_keeps_its_deliveries_held",
    "test_message_outlives_the_handle_that_sent_it",
    "test_pause_outlives_the_handle_that_made_it",
)
class ClosesOnce(MemoryBroker):
    closed = False

    def close(self):
        if self.closed and not self.queues():
            return
        assert not self.closed
        self.closed = True
        super().close()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
