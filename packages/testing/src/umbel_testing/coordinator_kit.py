"""What the parts of `CoordinatorSuite` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from umbel.interfaces.coordinator import Coordinator, Subscription
from umbel_testing.kit import Suite, missing_fixture


class CoordinatorKit(Suite):
    """Base of the parts of `CoordinatorSuite`."""

    _make: Callable[[], Coordinator]
    _handles: list[Coordinator | Subscription]

    @pytest.fixture
    def make_coordinator(self) -> Callable[[], Coordinator]:
        """Return a function that makes a new handle, each on the same store. To be overridden."""
        missing_fixture(self, "make_coordinator", "a function that makes a handle on one store")

    @pytest.fixture(autouse=True)
    def _with_coordinator(self, make_coordinator: Callable[[], Coordinator]) -> Iterator[None]:
        self.begin(make_coordinator)
        yield
        self.end()

    def begin(self, make_coordinator: Callable[[], Coordinator]) -> None:
        """Set up a test; the fixture does it."""
        self._make, self._handles = make_coordinator, []

    def end(self) -> None:
        """Close all handles and subscriptions of a test."""
        for handle in reversed(self._handles):
            handle.close()

    def open(self) -> Coordinator:
        """Return a new handle."""
        handle = self._make()
        self._handles.append(handle)
        return handle

    def subscribed(self, coordinator: Coordinator, *channels: str) -> Subscription:
        """Return a new subscription."""
        subscription = coordinator.subscribe(channels)
        self._handles.append(subscription)
        return subscription

    def polled(self, subscription: Subscription, count: int) -> list[tuple[str, bytes]]:
        """Poll exactly `count` messages, in as many steps as it takes."""
        messages: list[tuple[str, bytes]] = []

        def enough() -> bool:
            messages.extend(subscription.poll(timeout_s=0.02))
            return len(messages) >= count

        self.eventually(enough)
        assert len(messages) == count
        return messages


def payloads(messages: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Return what was published, without the channels."""
    return [payload for _, payload in messages]
