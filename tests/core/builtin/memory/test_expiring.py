"""Items go when their time is over, by themselves and without leaving a trace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from umbel.builtin.memory.expiring import ExpiringMap


def test_item_lasts_until_its_time():
    items: ExpiringMap[str] = ExpiringMap()
    items.put("a", "value", 0.0, 5.0)

    assert items.get("a", 4.9) == "value"
    assert items.get("a", 5.0) is None
    assert items.pop("a", 5.0) is None


def test_writing_drops_what_is_expired():
    items: ExpiringMap[int] = ExpiringMap()
    for number in range(10):
        items.put(str(number), number, 0.0, 1.0)
    items.put("new", 1, 2.0)

    assert len(items) == 1


def test_prolonged_item_is_kept_by_the_sweep():
    items: ExpiringMap[int] = ExpiringMap()
    items.put("a", 1, 0.0, 1.0)
    items.put("a", 2, 0.0, 10.0)
    items.put("b", 1, 0.0, 1.0)
    items.put("b", 2, 0.0)

    assert items.sweep(5.0) == 0
    assert dict(items.items(5.0)) == {"a": 2, "b": 2}
    assert items.sweep(10.0) == 1


def test_changed_item_keeps_its_time():
    items: ExpiringMap[int] = ExpiringMap()
    items.put("a", 1, 0.0, 1.0)
    items.change("a", 2)

    assert items.get("a", 0.5) == 2
    assert items.get("a", 1.0) is None


def test_sweep_keeps_to_its_limit():
    items: ExpiringMap[int] = ExpiringMap()
    for number in range(10):
        items.put(str(number), number, 0.0, 1.0)

    assert [items.sweep(2.0, limit=4) for _ in range(4)] == [4, 4, 2, 0]


def test_dropping_and_setting_again_leaves_no_trail():
    items: ExpiringMap[int] = ExpiringMap()
    for number in range(10_000):
        items.put("a", number, 0.0, 1e6 + number)
        items.pop("a", 0.0)

    assert len(items._heap) < 100


def test_prolonging_leaves_no_trail():
    items: ExpiringMap[int] = ExpiringMap()
    for number in range(10_000):
        items.put("a", number, float(number), number + 100.0)

    assert len(items._heap) < 10


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "pop", "sweep"]),
        st.sampled_from("abc"),
        st.one_of(st.none(), st.integers(0, 6)),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_behaves_as_a_plain_dictionary_with_times(steps):
    items: ExpiringMap[int] = ExpiringMap()
    model: dict[str, tuple[int, float]] = {}
    now = 0.0
    for number, (what, key, ttl, passed) in enumerate(steps):
        now += passed
        if what == "put":
            items.put(key, number, now, None if ttl is None else now + ttl)
            model[key] = (number, float("inf") if ttl is None else now + ttl)
        elif what == "pop":
            items.pop(key, now)
            model.pop(key, None)
        else:
            items.sweep(now)
        model = {name: entry for name, entry in model.items() if entry[1] > now}

        assert dict(items.items(now)) == {name: entry[0] for name, entry in model.items()}
    items.sweep(now)
    assert len(items) == len(model)


def test_shortened_item_goes_when_it_is_told_to():
    items: ExpiringMap[int] = ExpiringMap()
    items.put("long", 1, 0.0, 100.0)
    items.put("ever", 2, 0.0)
    items.put("soon", 3, 0.0, 1.0)
    for key in ("long", "ever", "soon"):
        items.shorten(key, 5.0)

    assert dict(items.items(0.5)) == {"long": 1, "ever": 2, "soon": 3}
    assert dict(items.items(1.5)) == {"long": 1, "ever": 2}
    assert items.sweep(5.0) == 3
    assert len(items) == 0
