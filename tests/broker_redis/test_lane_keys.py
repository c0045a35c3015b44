"""Names of keys: what one script touches is in one slot, whatever a queue is called."""

from __future__ import annotations

import pytest

from umbel_broker_redis.keys import Keys
from umbel_redis_client import slot_of

NAMES = [
    "q",
    "{}",
    "a}b",
    "{",
    "}{",
    "a{b",
    "{}x{y}",
    "x{y}z",
    "{{a}}",
    "{a}:{b}",
    "a:b/c",
    "é",
    " ",
]


@pytest.mark.parametrize("prefix", ["", "app:", "{app}"])
@pytest.mark.parametrize("queue", NAMES)
def test_keys_of_a_lane_are_in_the_slot_of_its_list(queue, prefix):
    keys = Keys(prefix, is_cluster=True)
    for lane in keys.lanes(queue):
        names = [lane.delayed, lane.consumers, lane.paused, lane.dead, lane.dead_records]
        names += [lane.claimed("{c}"), lane.pending("c}"), keys.once(lane, "{key}")]
        assert {slot_of(name.encode()) for name in names} == {slot_of(lane.ready.encode())}


def test_no_two_lanes_share_a_key():
    keys = Keys("", is_cluster=True)
    owned = [lane.own for queue in NAMES for lane in keys.lanes(queue)]
    assert len(set(owned)) == len(owned)
