"""The contract of a coordinator (umbel.interfaces.coordinator) as tests.

    class TestMyCoordinator(CoordinatorSuite):
        @pytest.fixture
        def make_coordinator(self, tmp_path):
            return lambda: MyCoordinator.from_url(f"my://{tmp_path}", options={}, clock=SYSTEM_CLOCK)

Each call returns a new handle on the same store, which may outlive a test.
"""

from __future__ import annotations

from umbel.interfaces.coordinator import Coordinator
from umbel_testing.coordinator_channels_suite import CoordinatorChannelsSuite
from umbel_testing.coordinator_leases_suite import CoordinatorLeasesSuite
from umbel_testing.coordinator_values_suite import CoordinatorValuesSuite


class CoordinatorSuite(CoordinatorValuesSuite, CoordinatorLeasesSuite, CoordinatorChannelsSuite):
    """All that is promised of every coordinator."""

    def test_coordinator_keeps_its_store_when_a_handle_closes(self) -> None:
        coordinator, key = self.open(), self.unique("key")
        coordinator.put(key, b"kept")
        coordinator.close()
        coordinator.close()
        other = self.open()

        assert isinstance(other, Coordinator)
        assert dict(other.get([key])) == {key: b"kept"}
