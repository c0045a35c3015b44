"""Each test of the bounds part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import time

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.space import Space
from umbel.errors import QueueFullError
from umbel.messages import OnConflict
from umbel_testing import BrokerSuite
from umbel_testing.broker_bounds_suite import BrokerBoundsSuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerBoundsSuite, make_broker)


class Broken(MemoryBroker):
    """A memory broker whose check for room is easy to break."""

    def _check_room(self, messages):
        super()._check_room(messages)


@MUTANTS.caught_by(
    "test_call_that_does_not_fit_stores_nothing",
    "test_delayed_messages_count",
    "test_held_messages_leave_room",
    "test_queue_takes_what_its_bound_allows_and_no_more",
    "test_send_once_keeps_to_the_bound",
)
class HasNoBounds(Broken):
    def configure(self, *, once_window_s, bounds):
        super().configure(once_window_s=once_window_s, bounds={})


@MUTANTS.caught_by(
    "test_bound_of_one_queue_is_no_other_queues",
    "test_delayed_messages_count",
    "test_follow_ups_go_beyond_the_bound",
    "test_held_messages_leave_room",
    "test_known_messages_need_no_room",
    "test_queue_takes_what_its_bound_allows_and_no_more",
    "test_replay_keeps_to_no_bound",
    "test_send_once_keeps_to_the_bound",
    "test_what_is_given_back_goes_beyond_the_bound",
)
class TakesOneLess(Broken):
    def configure(self, *, once_window_s, bounds):
        less = {queue: bound - 1 for queue, bound in bounds.items()}
        super().configure(once_window_s=once_window_s, bounds=less)


@MUTANTS.caught_by(
    "test_call_that_does_not_fit_stores_nothing",
    "test_delayed_messages_count",
    "test_held_messages_leave_room",
    "test_queue_takes_what_its_bound_allows_and_no_more",
    "test_send_once_keeps_to_the_bound",
)
class TakesOneMore(Broken):
    def configure(self, *, once_window_s, bounds):
        more = {queue: bound + 1 for queue, bound in bounds.items()}
        super().configure(once_window_s=once_window_s, bounds=more)


@MUTANTS.caught_by("test_queue_takes_what_its_bound_allows_and_no_more")
class NamesNothing(Broken):
    def send(self, messages):
        try:
            super().send(messages)
        except QueueFullError:
            raise QueueFullError("no room") from None


@MUTANTS.caught_by(
    "test_call_that_does_not_fit_stores_nothing",
    "test_message_that_cannot_be_encoded_is_refused_and_nothing_of_its_batch_stored",
)
class StoresWhatFits(Broken):
    def send(self, messages):
        for one in messages:
            super().send([one])


@MUTANTS.caught_by("test_bound_of_one_queue_is_no_other_queues")
class BoundsEveryQueue(Broken):
    def _check_room(self, messages):
        bound = min(self.bounds.values(), default=10**9)
        if any(self._store.count(one.queue) >= bound + 2 for one in messages):
            raise QueueFullError("no room")
        super()._check_room(messages)


@MUTANTS.caught_by("test_delayed_messages_count")
class CountsOnlyWhatIsReady(Broken):
    def _check_room(self, messages):
        if any(self._store.stats(one.queue, self._clock.time()).delayed for one in messages):
            return
        super()._check_room(messages)


@MUTANTS.caught_by(
    "test_held_messages_leave_room",
    "test_send_once_keeps_to_the_bound",
    "test_what_is_given_back_goes_beyond_the_bound",
)
class CountsWhatIsHeld(Broken):
    def _check_room(self, messages):
        for queue in {one.queue for one in messages}:
            stats = self._store.stats(queue, self._clock.time())
            if stats.held and stats.held + stats.ready >= self.bounds.get(queue, 10**9):
                raise QueueFullError(f"{queue} holds {self.bounds[queue]}")
        super()._check_room(messages)


@MUTANTS.caught_by("test_what_is_given_back_goes_beyond_the_bound")
class RefusesWhatIsGivenBack(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        with self._changed:
            super()._check_room([one.message for one in deliveries])
        super().nack(deliveries, delay_s=delay_s)


@MUTANTS.caught_by("test_follow_ups_go_beyond_the_bound")
class RefusesFollowUps(Broken):
    def settle(self, deliveries, follow_ups):
        with self._changed:
            super()._check_room(follow_ups)
        return super().settle(deliveries, follow_ups)


@MUTANTS.caught_by("test_send_once_keeps_to_the_bound")
class SendsOnceBeyondTheBound(Broken):
    def send_once(self, messages, *, on_conflict=OnConflict.RETURN):
        bounds, self.bounds = self.bounds, {}
        try:
            return super().send_once(messages, on_conflict=on_conflict)
        finally:
            self.bounds = bounds


@MUTANTS.caught_by("test_known_messages_need_no_room")
class CountsTheKnown(Broken):
    def send_once(self, messages, *, on_conflict=OnConflict.RETURN):
        with self._changed:
            super()._check_room(messages)
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by("test_concurrent_senders_do_not_go_beyond_the_bound")
class LooksBeforeItSends(Broken):
    def send(self, messages):
        with self._changed:
            super()._check_room(messages)
        if self.bounds:
            time.sleep(0.005)  # meanwhile others look, too
        bounds, self.bounds = self.bounds, {}
        try:
            super().send(messages)
        finally:
            self.bounds = bounds


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
