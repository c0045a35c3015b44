"""The contract of a broker (umbel.interfaces.broker) as tests.

    class TestMyBroker(BrokerSuite):
        @pytest.fixture
        def make_broker(self, tmp_path):
            return lambda: MyBroker.from_url(f"my://{tmp_path}", options={}, clock=SYSTEM_CLOCK)

Each call returns a new handle on the same store. Tests use queues of their own, so the store may
outlive a test. A capability that isn't declared is tested to be refused; nothing is skipped.
"""

from __future__ import annotations

from umbel.interfaces.broker import Broker, Capability
from umbel_testing.broker_bounds_suite import BrokerBoundsSuite
from umbel_testing.broker_dead_letter_suite import BrokerDeadLetterSuite
from umbel_testing.broker_delay_suite import BrokerDelaySuite
from umbel_testing.broker_delayed_suite import BrokerDelayedSuite
from umbel_testing.broker_delivery_suite import BrokerDeliverySuite
from umbel_testing.broker_inspection_suite import BrokerInspectionSuite
from umbel_testing.broker_lease_suite import BrokerLeaseSuite
from umbel_testing.broker_once_suite import BrokerOnceSuite
from umbel_testing.broker_pause_suite import BrokerPauseSuite
from umbel_testing.broker_settling_suite import BrokerSettlingSuite
from umbel_testing.broker_waiting_suite import BrokerWaitingSuite


class BrokerSuite(
    BrokerDeliverySuite,
    BrokerSettlingSuite,
    BrokerDelaySuite,
    BrokerWaitingSuite,
    BrokerLeaseSuite,
    BrokerInspectionSuite,
    BrokerDeadLetterSuite,
    BrokerOnceSuite,
    BrokerBoundsSuite,
    BrokerPauseSuite,
    BrokerDelayedSuite,
):
    """All that is promised of every broker."""

    def test_broker_declares_its_capabilities(self) -> None:
        broker = self.raw_handle()

        assert isinstance(broker, Broker)
        assert broker.capabilities <= frozenset(Capability)
