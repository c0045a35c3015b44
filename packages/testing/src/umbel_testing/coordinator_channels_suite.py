"""Part of `CoordinatorSuite`: publish and subscribe."""

from __future__ import annotations

from umbel_testing.coordinator_kit import CoordinatorKit, payloads
from umbel_testing.kit import Running


class CoordinatorChannelsSuite(CoordinatorKit):
    """What is published reaches all who are subscribed, in order."""

    def test_published_payload_reaches_every_subscription_once(self) -> None:
        first, second, channel = self.open(), self.open(), self.unique("channel")
        subscriptions = [self.subscribed(one, channel) for one in (first, second, second)]
        first.publish(channel, b"\x00 any bytes \xff")

        for subscription in subscriptions:
            assert self.polled(subscription, 1) == [(channel, b"\x00 any bytes \xff")]
            assert list(subscription.poll(timeout_s=0)) == []

    def test_payloads_come_in_order(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        subscription = self.subscribed(self.open(), channel)
        expected = [str(number).encode() for number in range(50)]
        for payload in expected:
            coordinator.publish(channel, payload)

        assert payloads(self.polled(subscription, 50)) == expected

    def test_subscription_hears_its_own_channels_only(self) -> None:
        coordinator = self.open()
        names = sorted(self.unique("channel") for _ in range(3))
        subscription = self.subscribed(coordinator, *names[:2])
        for name in (names[1], names[2], names[0]):
            coordinator.publish(name, name.encode())

        heard = self.polled(subscription, 2)
        assert heard == [(names[1], names[1].encode()), (names[0], names[0].encode())]
        assert list(subscription.poll(timeout_s=0)) == []

    def test_channel_names_are_taken_literally(self) -> None:
        coordinator, root = self.open(), self.unique("channel")
        subscription = self.subscribed(coordinator, f"{root}*", f"{root}%", f"{root}")
        coordinator.publish(f"{root}x", b"not this")
        coordinator.publish(f"{root}*", b"this")

        assert self.polled(subscription, 1) == [(f"{root}*", b"this")]

    def test_subscription_begins_when_it_is_made(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        coordinator.publish(channel, b"before")
        subscription = self.subscribed(coordinator, channel)
        coordinator.publish(channel, b"after")

        assert payloads(self.polled(subscription, 1)) == [b"after"]

    def test_waiting_poll_is_woken_by_a_payload(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        subscription = self.subscribed(coordinator, channel)
        running = Running(lambda: subscription.poll(timeout_s=60.0))
        running.goes_on()
        self.open().publish(channel, b"now")

        assert payloads(running.result(self.patience_s)) == [b"now"]

    def test_poll_waits_no_longer_than_it_may(self) -> None:
        subscription = self.subscribed(self.open(), self.unique("channel"))
        running = Running(lambda: subscription.poll(timeout_s=0.2))

        assert list(running.result(0.2 + self.grace_s)) == []

    def test_interrupt_ends_a_waiting_poll_and_nothing_else(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        subscription, other = (self.subscribed(coordinator, channel) for _ in range(2))
        running = Running(lambda: subscription.poll(timeout_s=60.0))
        waiting = Running(lambda: other.poll(timeout_s=60.0))
        running.goes_on()

        assert list(running.result(self.patience_s, nudge=subscription.interrupt)) == []
        assert waiting.goes_on()
        coordinator.publish(channel, b"later")
        assert payloads(waiting.result(self.patience_s)) == [b"later"]
        assert payloads(self.polled(subscription, 1)) == [b"later"]

    def test_closed_subscription_leaves_others_and_can_be_closed_again(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        closed, other = (self.subscribed(coordinator, channel) for _ in range(2))
        closed.close()
        closed.close()
        coordinator.publish(channel, b"still")

        assert payloads(self.polled(other, 1)) == [b"still"]

    def test_publishing_to_nobody_does_nothing(self) -> None:
        coordinator, channel = self.open(), self.unique("channel")
        coordinator.publish(channel, b"lost")

        assert list(self.subscribed(coordinator, channel).poll(timeout_s=0)) == []
