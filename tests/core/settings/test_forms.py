"""Values against typing forms: taken or refused, never bent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.settings.forms import MismatchError, check_form, convert, describe, parse

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "value,form,unit,expected",
    [
        (True, bool, None, True),
        (3, int, None, 3),
        (3, float, None, 3.0),
        ("x", str, None, "x"),
        (None, int | None, None, None),
        (timedelta(minutes=2), float, "seconds", 120.0),
        ("500ms", float, "seconds", 0.5),
        ("5m", float | None, "seconds", 300.0),
        (" 1.5 H ", float, "seconds", 5400.0),
        (["a", "b"], Sequence[str], None, ("a", "b")),
        ({"b", "a"}, Sequence[str], None, ("a", "b")),
        ({"a": [1]}, Mapping[str, Any], None, {"a": [1]}),
        (len, Callable[..., Any], None, len),
        ("a.b", Mapping[Any, Any] | Callable[..., Any] | str | None, None, "a.b"),
        (object, Any, None, object),
    ],
)
def test_fitting_value_is_taken(value: Any, form: Any, unit: str | None, expected: Any) -> None:
    assert convert(value, form, unit) == expected


@pytest.mark.parametrize(
    "value,form,unit",
    [
        (1, bool, None),
        ("true", bool, None),
        (True, int, None),
        (1.0, int, None),
        ("1", int, None),
        (True, float, None),
        (float("nan"), float, None),
        (float("inf"), float, "seconds"),
        (10**400, float, None),
        ("90", float, "seconds"),
        ("5m", float, "tasks"),
        (timedelta(1), float, None),
        (b"x", str, None),
        (None, str, None),
        ("abc", Sequence[str], None),
        ([1], Sequence[str], None),
        ({1: 2}, Mapping[str, Any], None),
        ([("a", 1)], Mapping[str, Any], None),
        ("x", Callable[..., Any], None),
    ],
)
def test_value_of_another_type_is_refused(value: Any, form: Any, unit: str | None) -> None:
    with pytest.raises(MismatchError):
        convert(value, form, unit)


def test_mapping_is_copied() -> None:
    given_value = {"a": 1}

    taken = convert(given_value, Mapping[str, Any])

    assert taken is not given_value


@pytest.mark.parametrize(
    "text,form,unit,expected",
    [
        ("TRUE", bool, None, True),
        ("off", bool, None, False),
        ("1", bool, None, True),
        (" 12 ", int, None, 12),
        ("-0.5", float, None, -0.5),
        ("15", float, "seconds", 15.0),
        ("15s", float, "seconds", 15.0),
        ("none", float | None, "seconds", None),
        ("Null", str | None, None, None),
        ("none", str, None, "none"),
        ("json, msgpack,", Sequence[str], None, ("json", "msgpack")),
        ('["a,b"]', Sequence[str], None, ("a,b",)),
        ('{"a": {"b": 1}}', Mapping[str, Any], None, {"a": {"b": 1}}),
        ("proj.router", Mapping[Any, Any] | Sequence[Any] | str | None, None, "proj.router"),
        ('["a", "b"]', Mapping[Any, Any] | Sequence[Any] | str | None, None, ("a", "b")),
        ("10", str | int | float | None, None, 10),
        ("10/s", str | int | float | None, None, "10/s"),
        ("a,b", Sequence[Any] | Mapping[str, Any] | None, None, ("a", "b")),
        ("plain", Any, None, "plain"),
        ("[1]", Any, None, [1]),
    ],
)
def test_text_is_read_by_its_form(text: str, form: Any, unit: str | None, expected: Any) -> None:
    read = parse(text, form, unit)

    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    "text,form",
    [
        ("maybe", bool),
        ("", bool),
        ("1.5", int),
        ("none", int),
        ("inf", float),
        ("nan", float),
        ("1e999", float),
        ("5m", float),
        ("{", Mapping[str, Any]),
        ("a=1", Mapping[str, Any]),
        ("[1]", Sequence[str]),
        ("[", Sequence[str]),
        ("len", Callable[..., Any]),
    ],
)
def test_text_that_means_nothing_is_refused(text: str, form: Any) -> None:
    with pytest.raises(MismatchError):
        parse(text, form)


@given(NUMBERS)
def test_every_number_is_read_back(number: float) -> None:
    assert parse(repr(number), float) == number


@given(st.integers())
def test_every_whole_number_is_read_back(number: int) -> None:
    assert parse(str(number), int) == number


@given(st.dictionaries(st.text(), JSON))
def test_every_json_mapping_is_read_back(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value), Mapping[str, Any]) == value


@given(
    st.text(), st.sampled_from([bool, int, float, float | None, Sequence[str], Mapping[str, Any]])
)
def test_any_text_is_read_or_refused(text: str, form: Any) -> None:
    try:
        value = parse(text, form, "seconds")
    except MismatchError:
        return
    assert convert(value, form, "seconds") == value


@pytest.mark.parametrize(
    "form,unit,words",
    [
        (bool, None, "true or false"),
        (int | None, "tasks", "whole number of tasks or None"),
        (float, "seconds", "number of seconds"),
        (Sequence[str] | None, None, "list of text or None"),
        (
            Mapping[Any, Any] | Sequence[Any] | Callable[..., Any] | str,
            None,
            "mapping or list or callable or text",
        ),
    ],
)
def test_form_is_described_in_words(form: Any, unit: str | None, words: str) -> None:
    assert describe(form, unit) == words


@pytest.mark.parametrize("form", [set[str], bytes, "int", int | bytes])
def test_form_that_settings_can_not_have_is_refused(form: Any) -> None:
    with pytest.raises(MismatchError, match="no type that a setting can have"):
        check_form(form)
