"""The broker keeps the contract, with all that the kit asks of a broker with its capabilities."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel.interfaces.broker import Broker
from umbel_broker_directory.broker import DirectoryBroker
from umbel_testing import BrokerSuite


class TestDirectoryBroker(BrokerSuite):
    """Runs all tests of the suite."""

    #: A disk that is busy takes its time with thousands of files.
    patience_s = 120.0

    @pytest.fixture
    def make_broker(self, tmp_path: Path) -> Callable[[], Broker]:
        """Return what makes a handle on a folder of the test's own."""
        return partial(DirectoryBroker, f"directory://{tmp_path}", options={}, clock=SYSTEM_CLOCK)
