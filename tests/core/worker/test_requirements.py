"""What a worker says of a broker before it starts."""

from __future__ import annotations

import pytest

from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import Space
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import ConfigError
from umbel.interfaces.broker import Capability
from umbel.worker.requirements import check_capabilities

ENOUGH = frozenset({Capability.DELAY, Capability.DEAD_LETTER, Capability.SHARED})


def broker_with(*capabilities):
    kind = type("Acme", (MemoryBroker,), {"capabilities": frozenset(capabilities)})
    return kind(Space(), SYSTEM_CLOCK)


@pytest.mark.parametrize("missing", sorted(ENOUGH))
def test_what_a_worker_needs_is_named(missing):
    with pytest.raises(ConfigError, match=f"Acme lacks what this worker needs: {missing} "):
        check_capabilities(broker_with(*(ENOUGH - {missing})), processes=1)


def test_worker_without_children_needs_no_shared_broker():
    check_capabilities(broker_with(*(ENOUGH - {Capability.SHARED})), processes=0)


def test_worker_with_children_warns_of_a_broker_without_leases(caplog):
    check_capabilities(broker_with(*ENOUGH), processes=2)
    assert "Acme has no leases" in caplog.text

    caplog.clear()
    check_capabilities(broker_with(*ENOUGH), processes=0)
    check_capabilities(broker_with(*ENOUGH, Capability.LEASE), processes=2)
    assert caplog.text == ""


def test_broker_without_leases_is_enough_beside_a_coordinator_that_others_see(tmp_path, caplog):
    shared = SqliteCoordinator(f"sqlite:///{tmp_path}/c.db", options={}, clock=SYSTEM_CLOCK)
    check_capabilities(broker_with(*ENOUGH), processes=2, coordinator=shared)
    assert caplog.text == ""

    alone = MemoryCoordinator(Space(), SYSTEM_CLOCK)
    check_capabilities(broker_with(*ENOUGH), processes=2, coordinator=alone)
    assert "no coordinator is shared" in caplog.text
