"""Each test of the sent-once part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.envelopes import read, written
from umbel.builtin.memory.once import Sent
from umbel.builtin.memory.space import Space
from umbel.errors import AlreadySentError
from umbel.messages import OnConflict
from umbel_testing import BrokerSuite
from umbel_testing.broker_once_suite import BrokerOnceSuite
from umbel_testing.mutants import Mutants

RETURN, RAISE, REPLACE = OnConflict.RETURN, OnConflict.RAISE, OnConflict.REPLACE


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


MUTANTS = Mutants(BrokerSuite, BrokerOnceSuite, make_broker)


class Broken(MemoryBroker):
    """A memory broker whose parts are easy to break."""

    def waiting(self, message):
        """Return the entry that waits under the key of `message`."""
        with self._changed:
            entry = self._store.sent.get(message.once_key)
            return entry if entry is not None and entry.consumer is None else None

    def forget(self, message):
        with self._changed:
            entry = self._store.sent.get(message.once_key)
            if entry is not None:
                self._store.sent.forget(entry)


@MUTANTS.caught_by(
    "test_another_attempt_is_another_message",
    "test_delayed_message_is_known",
    "test_finished_message_is_known_for_the_window_alone",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_known_message_is_passed_over_and_told",
    "test_known_messages_need_no_room",
    "test_message_stays_known_while_it_is_held_and_when_it_is_given_back",
    "test_message_twice_in_one_call_counts_once",
    "test_promoted_message_stays_known",
    "test_raise_names_the_known_and_stores_nothing",
    "test_replace_of_what_is_finished_sends_it_anew",
    "test_replace_of_what_is_held_raises_and_stores_nothing",
    "test_replace_takes_the_new_due_time",
    "test_replace_takes_the_new_priority_and_queue",
    "test_replace_takes_the_place_of_what_waits",
)
class SendsWhateverIsKnown(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        self.send(messages)
        return []


@MUTANTS.caught_by(
    "test_message_sent_once_is_received_as_it_was_sent",
    "test_replace_takes_the_new_priority_and_queue",
)
class LosesWhatIsSentOnce(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        less = [replace(one, priority=0) for one in messages]
        return super().send_once(less, on_conflict=on_conflict)


@MUTANTS.caught_by(
    "test_another_attempt_is_another_message",
    "test_delayed_message_is_known",
    "test_finished_message_is_known_for_the_window_alone",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_known_message_is_passed_over_and_told",
    "test_known_messages_need_no_room",
    "test_message_stays_known_while_it_is_held_and_when_it_is_given_back",
    "test_promoted_message_stays_known",
    "test_replace_of_what_is_finished_sends_it_anew",
    "test_replace_takes_the_place_of_what_waits",
)
class TellsNothingOfTheKnown(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        super().send_once(messages, on_conflict=on_conflict)
        return []


@MUTANTS.caught_by("test_known_message_is_passed_over_and_told")
class TellsTheKnownInAnyOrder(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        return list(super().send_once(messages, on_conflict=on_conflict))[::-1]


@MUTANTS.caught_by("test_known_message_is_passed_over_and_told")
class PassesOverTheWholeCall(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is RETURN:
            try:
                return super().send_once(messages, on_conflict=RAISE)
            except AlreadySentError as error:
                return error.task_ids
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by(
    "test_known_messages_need_no_room",
    "test_raise_names_the_known_and_stores_nothing",
    "test_replace_of_what_is_held_raises_and_stores_nothing",
    "test_replace_takes_the_place_of_what_waits",
)
class StoresBeforeItRaises(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is RETURN:
            return super().send_once(messages)
        barred = []
        for one in {each.once_key: each for each in messages}.values():
            try:
                super().send_once([one], on_conflict=on_conflict)
            except AlreadySentError as error:
                barred += error.task_ids
        if barred:
            raise AlreadySentError(barred)
        return []


@MUTANTS.caught_by(
    "test_refused_call_stores_nothing_and_knows_nothing",
    "test_send_once_keeps_to_the_bound",
)
class SendsOneByOne(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is not RETURN:
            return super().send_once(messages, on_conflict=on_conflict)
        known = []
        for one in messages:
            known += super().send_once([one])
        return known


@MUTANTS.caught_by("test_message_twice_in_one_call_counts_once")
class CountsARepeatInOneCallAsKnown(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        keys = [one.once_key for one in messages]
        twice = [one.id for one in messages if keys.count(one.once_key) > 1]
        if twice and on_conflict is RAISE:
            raise AlreadySentError(twice)
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by(
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_message_stays_known_while_it_is_held_and_when_it_is_given_back",
    "test_replace_of_what_is_held_raises_and_stores_nothing",
)
class ForgetsWhatIsHeld(Broken):
    def receive(self, queues, *, max_messages, wait_s):
        taken = super().receive(queues, max_messages=max_messages, wait_s=wait_s)
        for one in taken:
            self.forget(one.message)
        return taken


@MUTANTS.caught_by("test_message_stays_known_while_it_is_held_and_when_it_is_given_back")
class ForgetsWhatIsGivenBack(Broken):
    def nack(self, deliveries, *, delay_s=0.0):
        super().nack(deliveries, delay_s=delay_s)
        for one in deliveries:
            self.forget(one.message)


@MUTANTS.caught_by(
    "test_delayed_message_is_known",
    "test_promoted_message_stays_known",
)
class ForgetsTheDelayed(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        known = super().send_once(messages, on_conflict=on_conflict)
        for one in messages:
            if one.due_at is not None:
                self.forget(one)
        return known


@MUTANTS.caught_by(
    "test_finished_message_is_known_for_the_window_alone",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_promoted_message_stays_known",
)
class ForgetsTheFinishedAtOnce(Broken):
    def configure(self, *, once_window_s, bounds):
        super().configure(once_window_s=0.0, bounds=bounds)

    def _ack(self, deliveries):
        self.once_window_s = 0.0
        return super()._ack(deliveries)


@MUTANTS.caught_by("test_finished_message_is_known_for_the_window_alone")
class RemembersForEver(Broken):
    def configure(self, *, once_window_s, bounds):
        super().configure(once_window_s=float("inf"), bounds=bounds)


@MUTANTS.caught_by("test_dead_letter_is_not_known")
class KnowsTheDead(Broken):
    def bury(self, burials):
        with self._changed:
            held = [self._store.holds(one.delivery.receipt, one.delivery.token) for one in burials]
        super().bury(burials)
        with self._changed:
            for entry in held:
                if entry is not None and entry.once_key is not None:
                    self._store.sent.finish(entry, self._clock.time(), 600.0)


class SentById(Sent):
    """Takes one attempt for another."""

    def get(self, key):
        return super().get(key) or super().get(key.partition("/")[0])

    def find(self, message, key):
        return self.get(key)


@MUTANTS.caught_by(
    "test_refused_call_stores_nothing_and_knows_nothing",
    "test_send_once_keeps_to_the_bound",
)
class TakesOneAttemptForAnother(Broken):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        if type(self._store.sent) is Sent:
            self._store.sent = SentById()

    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is not RETURN:
            return super().send_once(messages, on_conflict=on_conflict)
        known = []
        for one in messages:
            known += super().send_once([one])
        return known


@MUTANTS.caught_by(
    "test_replace_of_what_is_finished_sends_it_anew",
    "test_replace_of_what_is_held_raises_and_stores_nothing",
    "test_replace_takes_the_new_due_time",
    "test_replace_takes_the_new_priority_and_queue",
    "test_replace_takes_the_place_of_what_waits",
)
class ReplacesNothing(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        return super().send_once(
            messages, on_conflict=RETURN if on_conflict is REPLACE else on_conflict
        )


@MUTANTS.caught_by("test_replace_takes_the_place_of_what_waits")
class ReplacesAtTheEnd(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is REPLACE:
            for one in messages:
                entry = self.waiting(one)
                if entry is not None:
                    entry.number = next(self._store._numbers)
        return super().send_once(messages, on_conflict=on_conflict)


class KeepsWhenReplacing(Broken):
    """Leaves one field of what is replaced as it was."""

    def keep(self, message, entry, old):
        raise NotImplementedError

    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is REPLACE:
            found = [(one, self.waiting(one)) for one in messages]
            messages = [
                one if entry is None else self.keep(one, entry, read(entry)) for one, entry in found
            ]
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by("test_replace_takes_the_place_of_what_waits")
class KeepsTheOldHeaders(KeepsWhenReplacing):
    def keep(self, message, entry, old):
        return replace(message, headers=old.headers)


@MUTANTS.caught_by("test_replace_takes_the_new_priority_and_queue")
class KeepsTheOldPriority(KeepsWhenReplacing):
    def keep(self, message, entry, old):
        return replace(message, priority=old.priority)


@MUTANTS.caught_by("test_replace_takes_the_new_priority_and_queue")
class KeepsTheOldQueue(KeepsWhenReplacing):
    def keep(self, message, entry, old):
        return replace(message, queue=old.queue)


@MUTANTS.caught_by("test_replace_takes_the_new_due_time")
class KeepsTheOldDueTime(KeepsWhenReplacing):
    def keep(self, message, entry, old):
        return replace(message, due_at=old.due_at)


@MUTANTS.caught_by("test_replace_of_what_is_held_raises_and_stores_nothing")
class ReplacesWhatIsHeld(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is REPLACE:
            for one in messages:
                if self.waiting(one) is None:
                    self.forget(one)
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by("test_replace_of_what_is_finished_sends_it_anew")
class ReplacesOnlyWhatWaits(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        if on_conflict is REPLACE:
            done = [
                one
                for one in messages
                if self._store.sent.is_finished(one.once_key, self._clock.time())
            ]
            messages = [one for one in messages if one not in done]
        return super().send_once(messages, on_conflict=on_conflict)


@MUTANTS.caught_by("test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again")
class TakesAFollowUpForTheNextOfWhatIsSettled(Broken):
    def settle(self, deliveries, follow_ups):
        settled = {each.receipt for each in deliveries}
        with self._changed:
            for one in follow_ups:
                entry = self._store.sent.get(one.once_key)
                if entry is not None and entry.receipt in settled:
                    self._store.sent.forget(entry)
        return super().settle(deliveries, follow_ups)


@MUTANTS.caught_by(
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
)
class SendsFollowUpsAgain(Broken):
    def settle(self, deliveries, follow_ups):
        raws = [written(one) for one in follow_ups]
        with self._changed:
            self._put(follow_ups, raws, once=True)
            return self._ack(deliveries)


@MUTANTS.caught_by(
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
)
class ForgetsItsFollowUps(Broken):
    def settle(self, deliveries, follow_ups):
        lost = super().settle(deliveries, follow_ups)
        for one in follow_ups:
            self.forget(one)
        return lost


@MUTANTS.caught_by(
    "test_concurrent_senders_of_one_message_have_one_winner",
    "test_finished_message_is_known_for_the_window_alone",
    "test_message_twice_in_one_call_counts_once",
    "test_promoted_message_stays_known",
    "test_send_once_keeps_to_the_bound",
)
class LooksBeforeItSends(Broken):
    def send_once(self, messages, *, on_conflict=RETURN):
        with self._changed:
            known = [one.id for one in messages if self._store.sent.get(one.once_key) is not None]
        if known:
            return super().send_once(messages, on_conflict=on_conflict)
        time.sleep(0.02)  # meanwhile others look, too
        with self._changed:
            raws = [written(one) for one in messages]
            self._put(messages, raws, once=True)
        return []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
