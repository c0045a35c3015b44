"""Part of `BrokerSuite`: from `send` to `receive`."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pytest

from umbel.errors import UmbelError
from umbel.ids import new_id
from umbel.interfaces.broker import Broker, Capability
from umbel_testing.broker_kit import BrokerKit, ids, message_of, needs, sent
from umbel_testing.kit import Running
from umbel_testing.samples import ODD_HEADERS, full_message, message


class BrokerDeliverySuite(BrokerKit):
    """What is sent comes out once, whole and in order."""

    #: Priorities that the store tells apart, the lowest first.
    priorities: ClassVar[tuple[int, ...]] = (0, 5, 9, 10, 255)

    def test_message_with_every_field_set_comes_back_equal(self) -> None:
        broker, queue = self.open(), self.unique("full")
        original = full_message(queue)
        broker.send([original])

        [delivery] = self.take(broker, queue, 1)
        assert delivery.message == original

    def test_message_with_few_fields_set_comes_back_equal(self) -> None:
        broker, queue = self.open(), self.unique("plain")
        [original] = sent(broker, queue, 1)

        [delivery] = self.take(broker, queue, 1)
        assert delivery.message == original

    def test_first_delivery_has_token_one_no_strikes_and_a_receipt(self) -> None:
        broker, queue = self.open(), self.unique("first")
        sent(broker, queue, 1)

        [delivery] = self.take(broker, queue, 1)
        assert (delivery.queue, delivery.token, delivery.strikes) == (queue, 1, 0)
        assert not delivery.redelivered
        assert delivery.receipt

    def test_unknown_headers_and_properties_are_kept(self) -> None:
        broker, queue = self.open(), self.unique("headers")
        task_id = new_id()
        headers = {"task": "kit.add", "id": task_id, **ODD_HEADERS}
        broker.send([message(queue, id=task_id, headers=headers, properties=ODD_HEADERS)])

        found = message_of(self.take(broker, queue, 1)[0])
        assert found.headers == headers
        assert found.properties == ODD_HEADERS

    def test_empty_body_comes_back_empty(self) -> None:
        self._assert_body_comes_back(b"")

    def test_binary_body_comes_back_byte_for_byte(self) -> None:
        self._assert_body_comes_back(bytes(range(256)) * 4)

    def test_large_body_comes_back_byte_for_byte(self) -> None:
        self._assert_body_comes_back(b"umbel " * 32_000)

    def test_later_change_of_a_header_by_its_sender_has_no_effect(self) -> None:
        broker, queue = self.open(), self.unique("changed")
        original = message(queue, headers={"task": "kit.add", "id": "1", "list": [1]})
        broker.send([original])
        original.headers["list"].append(2)

        assert message_of(self.take(broker, queue, 1)[0]).headers["list"] == [1]

    def test_sending_nothing_does_nothing(self) -> None:
        broker, queue = self.open(), self.unique("nothing")
        broker.send([])

        self.assert_nothing(broker, queue)

    def test_message_that_cannot_be_encoded_is_refused_and_nothing_of_its_batch_stored(
        self,
    ) -> None:
        broker, queue = self.open(), self.unique("refused")
        with pytest.raises(UmbelError):
            broker.send([message(queue), message(queue, headers={"id": "1", "x": object()})])

        self.assert_nothing(broker, queue)

    def test_messages_come_in_order_of_sending(self) -> None:
        broker, queue = self.open(), self.unique("order")
        messages = [*sent(broker, queue, 5), *sent(broker, queue, 1), *sent(broker, queue, 20)]

        assert ids(self.take(broker, queue, 26)) == [one.id for one in messages]

    @needs(Capability.PRIORITY)
    def test_higher_priority_goes_first(self) -> None:
        broker, queue = self.open(), self.unique("priority")
        mixed = (*self.priorities[::2], *self.priorities[1::2])
        broker.send([message(queue, priority=priority) for priority in mixed])

        received = [message_of(one).priority for one in self.take(broker, queue, len(mixed))]
        assert received == sorted(mixed, reverse=True)

    @needs(Capability.PRIORITY)
    def test_order_of_sending_holds_within_a_priority(self) -> None:
        broker, queue = self.open(), self.unique("within")
        messages = [message(queue, priority=number % 2) for number in range(10)]
        broker.send(messages)

        expected = [one.id for one in messages[1::2]] + [one.id for one in messages[0::2]]
        assert ids(self.take(broker, queue, 10)) == expected

    def test_one_send_fills_several_queues(self) -> None:
        broker, first, second = self.open(), self.unique("one"), self.unique("two")
        messages = [message(first), message(second), message(first)]
        broker.send(messages)

        assert ids(self.take(broker, first, 2)) == [messages[0].id, messages[2].id]
        [other] = self.take(broker, second, 1)
        assert (message_of(other).id, other.queue) == (messages[1].id, second)

    def test_receive_prefers_the_queue_named_first(self) -> None:
        broker, low, high = self.open(), self.unique("low"), self.unique("high")
        [later] = sent(broker, low, 1, priority=9)
        [sooner] = sent(broker, high, 1)

        first = self.take(broker, [high, low], 1)
        second = self.take(broker, [high, low], 1)
        assert ids([*first, *second]) == [sooner.id, later.id]

    def test_receive_takes_from_named_queues_only(self) -> None:
        broker, queue, other = self.open(), self.unique("named"), self.unique("other")
        sent(broker, other, 3)

        self.assert_nothing(broker, queue)

    def test_max_messages_bounds_a_receive(self) -> None:
        broker, first, second = self.open(), self.unique("bound"), self.unique("bound")
        sent(broker, first, 3)
        sent(broker, second, 10)

        for most in (1, 5):
            received = broker.receive([first, second], max_messages=most, wait_s=1.0)
            assert 1 <= len(received) <= most

    def test_held_message_is_not_received_again(self) -> None:
        broker, queue = self.open(), self.unique("held")
        sent(broker, queue, 2)
        self.take(broker, queue, 2)

        self.assert_nothing(broker, queue)
        self.assert_nothing(self.open(), queue)

    def test_receipts_of_one_consumer_are_unique(self) -> None:
        broker, first, second = self.open(), self.unique("one"), self.unique("two")
        sent(broker, first, 20)
        sent(broker, second, 20)

        deliveries = self.take(broker, [first, second], 40)
        assert len({delivery.receipt for delivery in deliveries}) == 40

    def test_message_outlives_the_handle_that_sent_it(self) -> None:
        queue, sender = self.unique("outlives"), self.raw_handle()
        [original] = sent(sender, queue, 1)
        sender.close()

        assert ids(self.take(self.open(), queue, 1)) == [original.id]

    def test_expired_message_is_delivered_all_the_same(self) -> None:
        broker, queue = self.open(), self.unique("expired")
        [original] = sent(broker, queue, 1, expires_at=self.now() - 60)

        assert ids(self.take(broker, queue, 1)) == [original.id]

    def test_five_thousand_messages_arrive_once_each_in_order(self) -> None:
        broker, queue = self.open(), self.unique("many")
        messages = sent(broker, queue, 5000)
        received: list[str] = []

        def all_there() -> bool:
            batch = broker.receive([queue], max_messages=500, wait_s=0.1)
            received.extend(ids(batch))
            broker.ack(batch)
            return len(received) >= len(messages)

        self.eventually(all_there)
        assert received == [one.id for one in messages]

    def test_concurrent_receivers_share_no_message(self) -> None:
        self._assert_shared_out([self.open() for _ in range(4)])

    def test_concurrent_threads_of_one_handle_share_no_message(self) -> None:
        self._assert_shared_out([self.open()] * 4)

    def test_concurrent_senders_lose_nothing(self) -> None:
        queue, broker = self.unique("senders"), self.open()
        handles = [self.raw_handle() for _ in range(4)]

        def send_all(sender: Broker) -> list[str]:
            return [sent(sender, queue, 1)[0].id for _ in range(25)]

        threads = [Running(partial(send_all, one)) for one in handles]
        expected = [one for thread in threads for one in thread.result(self.patience_s)]
        assert sorted(ids(self.take(broker, queue, 100))) == sorted(expected)

    def _assert_shared_out(self, handles: list[Broker]) -> None:
        queue = self.unique("shared")
        messages = sent(handles[0], queue, 200)
        received: list[str] = []

        def drain(broker: Broker) -> None:
            while batch := broker.receive([queue], max_messages=3, wait_s=0.2):
                received.extend(ids(batch))
                assert list(broker.ack(batch)) == []

        for thread in [Running(partial(drain, one)) for one in handles]:
            thread.result(self.patience_s)
        assert sorted(received) == sorted(one.id for one in messages)

    def _assert_body_comes_back(self, body: bytes) -> None:
        broker, queue = self.open(), self.unique("body")
        broker.send([message(queue, body=body, content_encoding="binary")])

        assert message_of(self.take(broker, queue, 1)[0]).body == body
