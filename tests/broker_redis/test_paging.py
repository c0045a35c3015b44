"""Several sorted sets are read as one, page by page."""

from __future__ import annotations

import random

import pytest

from umbel_broker_redis.paging import Merged
from umbel_redis_client import Client, parse_url

SETS = [f"set-{number}" for number in range(6)]


def filled(client, seed, *, highest, count=1300):
    """Fill the sets, all but the last, and return (score, set, member) of each."""
    chance = random.Random(seed)
    members = []
    for number in range(count):
        source = chance.randrange(len(SETS) - 1)
        members.append((chance.randrange(highest), source, f"member-{number:04}"))
    for score, source, member in members:
        client.call(SETS[source], "ZADD", SETS[source], score, member)
    return members


@pytest.fixture(params=["plain", "cluster"])
def client(request, redis_servers):
    made = Client(parse_url(redis_servers.get(request.param).url, {}, ignored=frozenset()))
    yield made
    made.close()


def listed(members):
    return [(each.score, each.source, each.member.decode()) for each in members]


@pytest.mark.parametrize("highest", [5, 1_800_000_000_000_000], ids=["ties", "apart"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_are_those_of_one_list(client, highest, newest_first):
    members = filled(client, seed=highest, highest=highest)
    # Of one score by set; within a set as Redis has it: by name, or turned round.
    whole = sorted(members, key=lambda each: each[2], reverse=newest_first)
    whole.sort(key=lambda each: (-each[0] if newest_first else each[0], each[1]))
    merged = Merged(client, SETS, newest_first=newest_first)

    for offset in (0, 1, 2, 77, 150, 999, 1290, 1299, 1300, 2000):
        assert listed(merged.page(37, offset)) == whole[offset : offset + 37]
    assert listed(merged.page(5000, 0)) == whole
    assert listed(merged.page(1100, 150)) == whole[150:1250]
    assert merged.page(0, 0) == []


def test_what_is_below_the_bound_does_not_count(client):
    members = sorted(filled(client, seed=1, highest=1000))
    bound = members[100][0]
    above = sorted(member for member in members if member[0] > bound)
    merged = Merged(client, SETS, above=f"({bound}")

    assert listed(merged.page(10, 0)) == above[:10]
    assert [each.score for each in merged.page(10, 50)] == [each[0] for each in above[50:60]]
    assert merged.page(10, len(above)) == []
