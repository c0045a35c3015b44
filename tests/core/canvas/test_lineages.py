"""Result tuples lose the parents that no reader of JSON would bear."""

from __future__ import annotations

import json

from umbel.canvas.lineages import shortened


def chain_of(length):
    result = None
    for index in range(length):
        result = [[str(index), result], None]
    return result


def ids_of(result):
    found = []
    while result is not None:
        found.append(result[0][0])
        result = result[0][1]
    return found


def test_short_lineage_stays():
    assert shortened(chain_of(5)) == chain_of(5)


def test_of_a_long_lineage_the_nearest_parents_stay():
    found = shortened(chain_of(3000))

    assert ids_of(found) == [str(index) for index in range(2999, 2999 - 33, -1)]
    assert json.loads(json.dumps(found)) == found


def test_members_of_a_group_are_shortened_each():
    group = [["g", chain_of(100)], [chain_of(100), chain_of(1)]]

    (_, parent), members = shortened(group)

    assert len(ids_of(parent)) == 32
    assert [len(ids_of(each)) for each in members] == [33, 1]


def test_group_among_the_parents_keeps_its_members():
    group = [["g", chain_of(1)], [chain_of(2), [["m", None], None]]]

    assert shortened([["end", group], None]) == [
        ["end", [["g", chain_of(1)], [[["1", None], None], [["m", None], None]]]],
        None,
    ]
