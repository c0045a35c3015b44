from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.publishing.short_repr import MAX_CHARS, arguments_repr, short_repr

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Counting:
    """A collection's item that counts how many of its kind were looked at."""

    seen = 0

    def __repr__(self):
        Counting.seen += 1
        return "item"


@given(VALUES)
def test_short_value_is_shown_by_its_own_repr(value):
    text = repr(value)

    if len(text) <= 500 and "..." not in short_repr(value):
        assert short_repr(value) == text


@given(VALUES, st.integers(min_value=20, max_value=60))
def test_no_text_is_longer_than_the_limit(value, limit):
    assert len(short_repr(value, limit)) <= limit


@given(st.lists(VALUES))
def test_arguments_are_shown_as_a_tuple_within_the_limit(args):
    text = arguments_repr(args)

    assert len(text) <= MAX_CHARS
    if len(repr(tuple(args))) <= 500 and "..." not in text:
        assert text == repr(tuple(args))


@pytest.mark.parametrize(
    "value, text",
    [
        ((), "()"),
        ((1,), "(1,)"),
        (set(), "set()"),
        (frozenset(), "frozenset()"),
        ({1}, "{1}"),
        (frozenset({1}), "frozenset({1})"),
        ({"a": (1, [2])}, "{'a': (1, [2])}"),
    ],
)
def test_collections_look_as_in_python(value, text):
    assert short_repr(value) == text


def test_long_text_is_cut_inside_its_quotes():
    text = short_repr(["x" * 5000])

    assert text.startswith("['xxx")
    assert text.endswith("...")


def test_large_collection_isnt_walked_to_its_end():
    Counting.seen = 0

    short_repr([Counting() for _ in range(10_000)])

    assert Counting.seen < 500


def test_value_that_holds_itself_comes_to_an_end():
    loop: list[object] = []
    loop.append(loop)

    assert short_repr(loop).startswith("[[[[")


def test_broken_repr_is_told_and_doesnt_raise():
    assert short_repr([Broken()]) == "[<Broken whose repr raises RuntimeError>]"
    assert arguments_repr((Broken(),)) == "(<Broken whose repr raises RuntimeError>,)"


def test_int_too_long_for_python_to_print_doesnt_raise():
    assert "raises ValueError" in arguments_repr((10**5000,))
