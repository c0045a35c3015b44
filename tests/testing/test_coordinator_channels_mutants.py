"""Each test of the channels part of `CoordinatorSuite` catches a fault planted in a sound coordinator."""

from __future__ import annotations

import fnmatch
import time
from typing import ClassVar

import pytest

from umbel.builtin.memory.coordinator import MemoryCoordinator, MemorySubscription
from umbel.builtin.memory.space import Space
from umbel_testing import CoordinatorSuite
from umbel_testing.coordinator_channels_suite import CoordinatorChannelsSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_coordinator(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(CoordinatorSuite, CoordinatorChannelsSuite, make_coordinator)


class Subscribes(MemoryCoordinator):
    """Makes subscriptions of its own kind."""

    kind = MemorySubscription

    def subscribe(self, channels):
        return self.kind(self._store, channels, self._clock)


@MUTANTS.caught_by(
    "test_channel_names_are_taken_literally",
    "test_closed_subscription_leaves_others_and_can_be_closed_again",
    "test_payloads_come_in_order",
    "test_published_payload_reaches_every_subscription_once",
    "test_subscription_begins_when_it_is_made",
    "test_subscription_hears_its_own_channels_only",
)
class PublishesTwice(MemoryCoordinator):
    def publish(self, channel, payload):
        super().publish(channel, payload)
        super().publish(channel, payload)


@MUTANTS.caught_by("test_published_payload_reaches_every_subscription_once")
class PublishesToTheFirst(MemoryCoordinator):
    def publish(self, channel, payload):
        with self._changed:
            for inbox in self._store._inboxes:
                if channel in inbox.channels:
                    inbox.messages.append((channel, payload))
                    break
            self._changed.notify_all()


@MUTANTS.caught_by(
    "test_payloads_come_in_order",
    "test_subscription_hears_its_own_channels_only",
)
class PollsTheNewestFirst(Subscribes):
    class kind(MemorySubscription):
        def poll(self, *, timeout_s):
            return list(reversed(super().poll(timeout_s=timeout_s)))


@MUTANTS.caught_by(
    "test_channel_names_are_taken_literally",
    "test_subscription_hears_its_own_channels_only",
)
class HearsAllChannels(MemoryCoordinator):
    def publish(self, channel, payload):
        with self._changed:
            for inbox in self._store._inboxes:
                inbox.messages.append((channel, payload))
            self._changed.notify_all()


@MUTANTS.caught_by("test_channel_names_are_taken_literally")
class HearsByPattern(MemoryCoordinator):
    def publish(self, channel, payload):
        with self._changed:
            for inbox in self._store._inboxes:
                if any(fnmatch.fnmatchcase(channel, pattern) for pattern in inbox.channels):
                    inbox.messages.append((channel, payload))
            self._changed.notify_all()


@MUTANTS.caught_by(
    "test_publishing_to_nobody_does_nothing",
    "test_subscription_begins_when_it_is_made",
)
class RepeatsThePast(Subscribes):
    past: ClassVar[list] = []

    def publish(self, channel, payload):
        self.past.append((channel, payload))
        super().publish(channel, payload)

    def subscribe(self, channels):
        made = super().subscribe(channels)
        made._inbox.messages.extend(one for one in self.past if one[0] in channels)
        return made


@MUTANTS.caught_by("test_waiting_poll_is_woken_by_a_payload")
class SleepsThroughPolls(Subscribes):
    class kind(MemorySubscription):
        def poll(self, *, timeout_s):
            found = super().poll(timeout_s=0)
            if not found and timeout_s > 1:
                time.sleep(LONG_S)
            return found or super().poll(timeout_s=timeout_s)


@MUTANTS.caught_by("test_poll_waits_no_longer_than_it_may")
class PollsTooLong(Subscribes):
    class kind(MemorySubscription):
        def poll(self, *, timeout_s):
            return super().poll(timeout_s=timeout_s * 100)


@MUTANTS.caught_by("test_interrupt_ends_a_waiting_poll_and_nothing_else")
class CannotBeInterrupted(Subscribes):
    class kind(MemorySubscription):
        def interrupt(self):
            pass


@MUTANTS.caught_by("test_closed_subscription_leaves_others_and_can_be_closed_again")
class ClosesForAll(Subscribes):
    class kind(MemorySubscription):
        def close(self):
            self._store._inboxes.clear()


@MUTANTS.caught_by("test_coordinator_keeps_its_store_when_a_handle_closes")
class ForgetsAtClose(MemoryCoordinator):
    def close(self):
        self.delete(list(self.scan("")))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
