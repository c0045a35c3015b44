"""Each test of the delivery part of `BrokerSuite` catches a fault planted in a sound broker."""

from __future__ import annotations

import time
from typing import ClassVar

import msgspec
import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.envelopes import read as _read
from umbel.builtin.memory.space import Space
from umbel_testing import BrokerSuite
from umbel_testing.broker_delivery_suite import BrokerDeliverySuite
from umbel_testing.mutants import Mutants


def make_broker(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


def changed(messages, **changes):
    return [msgspec.structs.replace(one, **changes) for one in messages]


def each(messages, change):
    return [msgspec.structs.replace(one, **change(one)) for one in messages]


MUTANTS = Mutants(BrokerSuite, BrokerDeliverySuite, make_broker)


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
    "test_message_with_every_field_set_comes_back_equal",
    "test_unknown_headers_and_properties_are_kept",
)
class LosesUnknownHeaders(Broken):
    def send(self, messages):
        super().send(
            each(
                messages,
                lambda one: {
                    "headers": {
                        key: value for key, value in one.headers.items() if not key.startswith("x-")
                    }
                },
            )
        )


@MUTANTS.caught_by(
    "test_message_with_every_field_set_comes_back_equal",
    "test_unknown_headers_and_properties_are_kept",
)
class LosesProperties(Broken):
    def send(self, messages):
        super().send(changed(messages, properties={}))


@MUTANTS.caught_by("test_large_body_comes_back_byte_for_byte")
class CutsLargeBodies(Broken):
    def send(self, messages):
        super().send(each(messages, lambda one: {"body": one.body[:65536]}))


@MUTANTS.caught_by(
    "test_binary_body_comes_back_byte_for_byte",
    "test_message_with_every_field_set_comes_back_equal",
)
class TakesBodiesForText(Broken):
    def send(self, messages):
        super().send(
            each(messages, lambda one: {"body": one.body.decode("utf-8", "replace").encode()})
        )


@MUTANTS.caught_by("test_empty_body_comes_back_empty")
class FillsEmptyBodies(Broken):
    def send(self, messages):
        super().send(each(messages, lambda one: {"body": one.body or b"[]"}))


@MUTANTS.caught_by(
    "test_delayed_lists_what_waits_the_next_due_first",
    "test_delayed_message_of_a_paused_queue_waits_on_when_it_is_due",
    "test_delayed_message_waits_for_its_time",
    "test_delayed_messages_come_each_at_its_own_time",
    "test_dropped_message_is_gone_for_good",
    "test_message_with_every_field_set_comes_back_equal",
    "test_promoted_message_is_as_it_was_sent",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_stats_count_the_delayed_apart_until_they_are_due",
    "test_what_is_due_is_not_delayed_any_more",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class CountsWholeSeconds(Broken):
    def send(self, messages):
        super().send(
            each(messages, lambda one: {"due_at": one.due_at and float(int(one.due_at) + 1)})
        )


@MUTANTS.caught_by(
    "test_buried_message_is_a_dead_letter_with_its_reason",
    "test_delayed_lists_what_waits_the_next_due_first",
    "test_delayed_lists_what_was_given_back_for_later",
    "test_delayed_message_waits_for_its_time",
    "test_dropped_message_is_gone_for_good",
    "test_message_nacked_with_a_delay_comes_back_after_it",
    "test_message_with_few_fields_set_comes_back_equal",
    "test_nacked_message_comes_back_equal_with_a_higher_token_and_no_strike",
    "test_promoted_message_is_as_it_was_sent",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_of_a_paused_queue_waits",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_what_is_not_delayed_is_neither_promoted_nor_dropped",
)
class FillsFields(Broken):
    def send(self, messages):
        super().send(each(messages, lambda one: {"exchange": one.exchange or one.queue}))


@MUTANTS.caught_by(
    "test_buried_message_is_a_dead_letter_with_its_reason",
    "test_expired_lease_gives_deliveries_back_once",
    "test_first_delivery_has_token_one_no_strikes_and_a_receipt",
    "test_message_nacked_with_a_delay_comes_back_after_it",
    "test_nacked_message_comes_back_equal_with_a_higher_token_and_no_strike",
    "test_peek_shows_what_comes_next_and_takes_nothing",
    "test_promoted_message_is_ready_at_once",
    "test_promoted_message_that_is_given_back_stays_ready",
    "test_replayed_message_takes_the_place_of_its_dead_letter",
)
class BeginsTokensAtTwo(Broken):
    def receive(self, queues, **how):
        with self._changed:
            for queue in queues:
                for entry in self._store.waiting(queue, self._clock.time()):
                    entry.token = entry.token or 1
        return super().receive(queues, **how)


@MUTANTS.caught_by("test_later_change_of_a_header_by_its_sender_has_no_effect")
class SharesTheSendersObjects(Broken):
    shared: ClassVar[dict] = {}

    def send(self, messages):
        super().send(messages)
        self.shared.update((message.id, message) for message in messages)

    def receive(self, queues, **how):
        return [
            msgspec.structs.replace(one, message=self.shared.get(one.message.id, one.message))
            for one in super().receive(queues, **how)
        ]


@MUTANTS.caught_by("test_sending_nothing_does_nothing")
class FailsToSendNothing(Broken):
    def send(self, messages):
        assert messages[0].queue
        super().send(messages)


@MUTANTS.caught_by(
    "test_call_that_does_not_fit_stores_nothing",
    "test_failed_settle_keeps_the_delivery_and_atomically_sends_nothing",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again",
    "test_follow_ups_go_beyond_the_bound",
    "test_message_that_cannot_be_encoded_is_refused_and_nothing_of_its_batch_stored",
)
class StoresPartOfABatch(Broken):
    def send(self, messages):
        for message in messages:
            super().send([message])

    def settle(self, deliveries, follow_ups):
        self.send(follow_ups)
        return self.ack(deliveries)


@MUTANTS.caught_by(
    "test_message_nacked_with_a_delay_keeps_its_place_among_the_ready",
    "test_messages_come_in_order_of_sending",
    "test_nacked_message_comes_back_at_its_old_place",
    "test_one_send_fills_several_queues",
    "test_order_of_sending_holds_within_a_priority",
    "test_part_of_a_batch_can_be_acked",
    "test_pause_leaves_the_held_to_their_holder",
    "test_paused_queue_takes_what_is_sent",
    "test_peek_goes_through_a_queue_in_pages",
    "test_peek_leaves_out_what_is_held",
    "test_queue_takes_what_its_bound_allows_and_no_more",
    "test_recovered_messages_come_back_at_their_old_place",
    "test_settle_and_receive_acks_and_takes_what_is_next_at_most",
)
class ReversesBatches(Broken):
    def send(self, messages):
        super().send(list(reversed(messages)))


@MUTANTS.caught_by(
    "test_higher_priority_goes_first",
    "test_order_of_sending_holds_within_a_priority",
)
class LowestPriorityFirst(Broken):
    def _put(self, messages, raws, **how):
        turned = [msgspec.structs.replace(one, priority=-one.priority) for one in messages]
        super()._put(turned, raws, **how)


@MUTANTS.caught_by(
    "test_higher_priority_goes_first",
    "test_order_of_sending_holds_within_a_priority",
)
class IgnoresPriority(Broken):
    def _put(self, messages, raws, **how):
        even = [msgspec.structs.replace(one, priority=0) for one in messages]
        super()._put(even, raws, **how)


@MUTANTS.caught_by(
    "test_bound_of_one_queue_is_no_other_queues",
    "test_follow_ups_go_beyond_the_bound",
    "test_one_send_fills_several_queues",
    "test_queues_names_all_that_hold_or_held_messages_sorted",
)
class SendsAllToTheFirstQueue(Broken):
    def _put(self, messages, raws, **how):
        super()._put(
            [msgspec.structs.replace(one, queue=messages[0].queue) for one in messages], raws, **how
        )


@MUTANTS.caught_by("test_receive_prefers_the_queue_named_first")
class PrefersTheLastQueue(Broken):
    def receive(self, queues, **how):
        return super().receive(list(reversed(queues)), **how)


@MUTANTS.caught_by(
    "test_purge_drops_what_waits_and_counts_it",
    "test_receive_takes_from_named_queues_only",
    "test_send_once_keeps_to_the_bound",
)
class ReceivesFromAllQueues(Broken):
    def receive(self, queues, **how):
        return super().receive([*queues, *self._store.names()], **how)


@MUTANTS.caught_by(
    "test_max_messages_bounds_a_receive",
    "test_receive_prefers_the_queue_named_first",
)
class BoundsEachQueueForItself(Broken):
    def receive(self, queues, *, max_messages, wait_s):
        got = []
        for queue in queues:
            got += super().receive([queue], max_messages=max_messages, wait_s=0)
        return got or super().receive(queues, max_messages=max_messages, wait_s=wait_s)


@MUTANTS.caught_by(
    "test_delayed_messages_come_each_at_its_own_time",
    "test_follow_up_and_send_once_know_of_each_other",
    "test_follow_up_is_sent_once_however_often_it_is_settled",
    "test_held_message_is_not_received_again",
    "test_known_message_is_passed_over_and_told",
    "test_message_twice_in_one_call_counts_once",
    "test_pause_leaves_the_held_to_their_holder",
    "test_paused_queue_does_not_hold_up_others",
    "test_queue_takes_what_its_bound_allows_and_no_more",
    "test_raise_names_the_known_and_stores_nothing",
    "test_replace_of_what_is_held_raises_and_stores_nothing",
    "test_replace_takes_the_new_due_time",
    "test_replace_takes_the_new_priority_and_queue",
    "test_replace_takes_the_place_of_what_waits",
    "test_replay_of_what_is_not_there_tells_so_and_sends_the_others",
    "test_settling_nothing_does_nothing",
    "test_what_was_struck_is_held_back_and_its_neighbours_are_not",
)
class HandsOutWhatIsHeld(Broken):
    def receive(self, queues, **how):
        held = [
            one for one in self.held(self._consumer) if one.queue in queues and not how["wait_s"]
        ]
        return held or super().receive(queues, **how)


@MUTANTS.caught_by(
    "test_closing_a_handle_keeps_its_deliveries_held",
    "test_held_message_is_not_received_again",
    "test_late_nack_is_passed_over",
    "test_renewed_lease_keeps_deliveries_however_long",
)
class HandsOutWhatOthersHold(Broken):
    def receive(self, queues, **how):
        if not how["wait_s"]:
            with self._changed:
                others = [e for e in self._store._held.values() if e.consumer != self._consumer]
                self.requeue([entry for entry in others if entry.queue in queues])
        return super().receive(queues, **how)


@MUTANTS.caught_by("test_receipts_of_one_consumer_are_unique")
class ReusesReceipts(Broken):
    def receive(self, queues, **how):
        return [
            msgspec.structs.replace(one, receipt=str(int(one.receipt) - 20 * ("two" in one.queue)))
            for one in super().receive(queues, **how)
        ]


@MUTANTS.caught_by(
    "test_close_can_be_repeated",
    "test_message_outlives_the_handle_that_sent_it",
)
class ForgetsWhatAHandleSent(Broken):
    def send(self, messages):
        super().send(messages)
        self.sent = [*getattr(self, "sent", ()), *(message.queue for message in messages)]

    def close(self):
        super().close()
        for queue in getattr(self, "sent", ()):
            self.purge(queue)


@MUTANTS.caught_by("test_expired_message_is_delivered_all_the_same")
class DropsTheExpired(Broken):
    def receive(self, queues, **how):
        got = super().receive(queues, **how)
        late = [one for one in got if (one.message.expires_at or 1e18) < self._clock.time()]
        self.ack(late)
        return [one for one in got if one not in late]


@MUTANTS.caught_by("test_five_thousand_messages_arrive_once_each_in_order")
class CutsLargeBatches(Broken):
    def send(self, messages):
        super().send(messages[:1000])


@MUTANTS.caught_by(
    "test_concurrent_receivers_share_no_message",
    "test_paused_queue_does_not_hold_up_others",
)
class TakesInTwoSteps(Broken):
    def receive(self, queues, *, max_messages, wait_s):
        with self._changed:
            seen = list(self._store.waiting(queues[0], self._clock.time()))[:max_messages]
        time.sleep(0.001)
        got = super().receive(queues, max_messages=max_messages, wait_s=wait_s)
        names = {one.receipt for one in got}
        doubled = [
            msgspec.structs.replace(got[0], receipt=entry.receipt, message=_read(entry))
            for entry in seen
            if got and entry.receipt not in names
        ]
        return [*got, *doubled]


@MUTANTS.caught_by("test_concurrent_threads_of_one_handle_share_no_message")
class KeepsItsBatchInTheHandle(MemoryBroker):
    batch = ()

    def receive(self, queues, **how):
        self.batch = super().receive(queues, **how)
        time.sleep(0.001)
        return self.batch


@MUTANTS.caught_by("test_concurrent_senders_lose_nothing")
class OverwritesConcurrentSends(Broken):
    def send(self, messages):
        queue = self._store._queue(messages[0].queue) if messages else None
        before = list(queue._ready) if queue else []
        time.sleep(0.001)
        if queue:
            queue._ready[:] = before
        super().send(messages)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
