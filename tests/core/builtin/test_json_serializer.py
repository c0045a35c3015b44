# ruff: noqa: DTZ001 - naive datetimes are a part of what is tested
from __future__ import annotations

import json
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.builtin.json_serializer import MAX_DEPTH, JsonSerializer, is_deeper
from umbel.errors import ConfigError, DecodeError, EncodeError

serializer = JsonSerializer()
ID = UUID("12345678-1234-4678-9234-567812345678")
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


# Written by kombu 5.7.0 (kombu.utils.json.dumps), and read back by it as the value beside.
KOMBU = [
    (datetime(2020, 1, 2, 3, 4, 5), '{"__type__": "datetime", "__value__": "2020-01-02T03:04:05"}'),
    (
        datetime(2020, 1, 2, 3, 4, 5, 6),
        '{"__type__": "datetime", "__value__": "2020-01-02T03:04:05.000006"}',
    ),
    (
        datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
        '{"__type__": "datetime", "__value__": "2020-01-02T03:04:05+00:00"}',
    ),
    (
        datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        '{"__type__": "datetime", "__value__": "2020-01-02T03:04:05+05:30"}',
    ),
    (date(2020, 1, 2), '{"__type__": "date", "__value__": "2020-01-02"}'),
    (time(1, 2, 3, 4), '{"__type__": "time", "__value__": "01:02:03.000004"}'),
    (time(1, 2, 3, tzinfo=UTC), '{"__type__": "time", "__value__": "01:02:03+00:00"}'),
    (ID, '{"__type__": "uuid", "__value__": {"hex": "12345678123446789234567812345678"}}'),
    (Decimal("1.50"), '{"__type__": "decimal", "__value__": "1.50"}'),
    (Decimal("1E+5"), '{"__type__": "decimal", "__value__": "1E+5"}'),
    (b"abc", '{"__type__": "bytes", "__value__": "abc"}'),
    (b"", '{"__type__": "bytes", "__value__": ""}'),
    (b"\xff\x00", '{"__type__": "base64", "__value__": "/wA="}'),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    (10**40, "1" + "0" * 40),
    ("\ud800", '"\\ud800"'),
    ("é☃😀", '"\\u00e9\\u2603\\ud83d\\ude00"'),
    ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
    ([None, True, -0.0, 1e22], "[null, true, -0.0, 1e+22]"),
    (
        {"a": [date(2020, 1, 1), [b"\xff"]]},
        (
            '{"a": [{"__type__": "date", "__value__": "2020-01-01"}, '
            '[{"__type__": "base64", "__value__": "/w=="}]]}'
        ),
    ),
]


@pytest.mark.parametrize("value, text", KOMBU, ids=[text[:60] for _, text in KOMBU])
class TestBesideKombu:
    def test_writes_what_kombu_writes(self, value: object, text: str) -> None:
        assert json.loads(serializer.dumps(value)) == json.loads(text)

    def test_reads_what_kombu_writes(self, value: object, text: str) -> None:
        found = serializer.loads(text.encode())

        assert found == value
        assert type(found) is type(value)


def test_nan_goes_and_comes_as_kombu_writes_it() -> None:
    assert serializer.dumps(float("nan")) == b"NaN"
    assert math.isnan(serializer.loads(b"NaN"))


def test_nan_deep_inside_is_no_null() -> None:
    assert serializer.dumps([{"a": (1.5, float("nan"))}]) == b'[{"a":[1.5,NaN]}]'


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Mode(StrEnum):
    FAST = "fast"


class Moment(datetime):
    pass


class Whole(int):
    pass


class Text(str):
    __slots__ = ()


class Plain:
    def __json__(self) -> dict:
        return {"when": date(2020, 1, 1)}


class Key(UUID):
    def __json__(self) -> str:
        return "key"


Pair = namedtuple("Pair", "a b")  # noqa: PYI024


@pytest.mark.parametrize(
    "value, back",
    [
        ((1, (2,)), [1, [2]]),
        (Pair(1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Mode.FAST, "fast"),
        (Whole(3), 3),
        (Text("x"), "x"),
        (Moment(2020, 1, 1), datetime(2020, 1, 1)),
        (Plain(), {"when": date(2020, 1, 1)}),
        (Key(int=5), "key"),
        (OrderedDict(a=1), {"a": 1}),
        ({1: 2, 1.5: 3, None: 4}, {"1": 2, "1.5": 3, "null": 4}),
        ({True: 1}, {"true": 1}),
        ({Mode.FAST: Level.LOW}, {"fast": 1}),
        ([1e-400, 5e-324], [0.0, 5e-324]),
    ],
)
def test_comes_back_as_plain(value: object, back: object) -> None:
    assert serializer.loads(serializer.dumps(value)) == back


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.datetimes().map(lambda at: at.replace(fold=0))  # ISO 8601 has no fold
    | st.dates()
    | st.times().map(lambda at: at.replace(fold=0))
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


def same(a: object, b: object) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return repr(a) == repr(b)


@given(plain)
def test_all_values_come_back_with_their_types(value: object) -> None:
    assert same(serializer.loads(serializer.dumps(value)), value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner)
            | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        ),
        max_leaves=20,
    )
)
def test_means_what_the_standard_library_writes(value: object) -> None:
    expected = json.loads(json.dumps(value))

    assert same(json.loads(serializer.dumps(value)), expected)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ntu0dfalsre1.5eE+-').map(str.encode))
@settings(max_examples=500)
def test_no_bytes_raise_anything_but_decode_error(data: bytes) -> None:
    try:
        expected = json.loads(data.decode())
    except ValueError:
        with pytest.raises(DecodeError):
            serializer.loads(data)
        return
    try:
        found = serializer.loads(data)
    except DecodeError:
        assert "__type__" in json.dumps(expected)  # tagged, and with a tag that says nothing
    else:
        assert "__type__" in json.dumps(expected) or same(found, expected)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nul",
        b"[1,]",
        b"01",
        b"\xff",
        b'"\xff"',
        b'"\x01"',
        b"\xef\xbb\xbf1",
        b"1" * 5000,
        '"é"'.encode("utf-16"),
        b'{"__type__":"uuid","__value__":"garbage"}',
        b'{"__type__":"uuid","__value__":{"int":5}}',
        b'{"__type__":"uuid","__value__":{"hex":5}}',
        b'{"__type__":"datetime","__value__":5}',
        b'{"__type__":"datetime","__value__":"yesterday"}',
        b'{"__type__":"date","__value__":null}',
        b'{"__type__":"time","__value__":"25:00"}',
        b'{"__type__":"decimal","__value__":"x"}',
        b'{"__type__":"decimal","__value__":true}',
        b'{"__type__":"bytes","__value__":5}',
        b'{"__type__":"base64","__value__":"%%%"}',
        b'{"__type__":"unheard_of","__value__":1}',
        b'{"__type__":["x"],"__value__":1}',
        b'{"__type__":null,"__value__":1}',
        b'[{"__type__":"timedelta","__value__":1}]',
    ],
)
def test_malformed_data_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        serializer.loads(data)


def test_an_unknown_marker_is_named_with_those_known() -> None:
    with pytest.raises(DecodeError, match=r"type 'money' is not known here.*decimal"):
        serializer.loads(b'{"__type__":"money","__value__":1}')


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"__type__":"uuid"}', {"__type__": "uuid"}),
        ('{"__type__":"foo","__value__":1,"x":2}', {"__type__": "foo", "__value__": 1, "x": 2}),
        ('{"bytes":"abc","__bytes__":true}', {"bytes": "abc", "__bytes__": True}),
        ('{"__type__":"datetime","__value__":"2020-01-01"}', datetime(2020, 1, 1)),
        ('{"__type__":"date","__value__":"2020-01-01T10:00:00"}', date(2020, 1, 1)),
        ('{"__type__":"decimal","__value__":1.5}', Decimal("1.5")),
        (
            '{"__type__":"uuid","__value__":{"hex":"12345678123456781234567812345678","version":4}}',
            ID,
        ),
        ("[1e400,-Infinity]", [math.inf, -math.inf]),
        ('{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_reads_what_kombu_reads(text: str, value: object) -> None:
    assert serializer.loads(text.encode()) == value


class TestEncodeErrors:
    def test_the_path_into_a_body_names_its_part(self) -> None:
        body = [[{"when": [1, 2, 3, {4}]}], {}, EMBED]

        with pytest.raises(EncodeError, match=r"^args\[0\]\['when'\]\[3\] is of type builtins.set"):
            serializer.dumps(body)

    def test_the_path_into_keyword_arguments(self) -> None:
        with pytest.raises(EncodeError, match=r"^kwargs\['at'\] .*total_seconds"):
            serializer.dumps([[], {"at": timedelta(1)}, EMBED])

    def test_the_path_into_a_value(self) -> None:
        with pytest.raises(EncodeError, match=r"^value\['a'\]\[1\] is of type builtins.object"):
            serializer.dumps({"a": (1, object())})

    def test_a_dataclass_is_told_from_other_objects(self) -> None:
        @dataclass
        class Point:
            x: int

        with pytest.raises(EncodeError, match="asdict"):
            serializer.dumps(Point(1))

    def test_a_key_that_json_lacks(self) -> None:
        with pytest.raises(EncodeError, match=r"value\['a'\] has a key of type date"):
            serializer.dumps({"a": {date(2020, 1, 1): 1}})

    def test_an_int_with_too_many_digits(self) -> None:
        with pytest.raises(EncodeError, match="value"):
            serializer.dumps([10**5000])

    def test_a_class_is_no_value(self) -> None:
        with pytest.raises(EncodeError, match="pass its name"):
            serializer.dumps([Plain])

    def test_a_failing_json_method(self) -> None:
        class Broken:
            def __json__(self) -> object:
                raise RuntimeError("no luck")

        with pytest.raises(
            EncodeError, match=r"value\[0\] can't be encoded: RuntimeError: no luck"
        ):
            serializer.dumps([Broken()])

    def test_a_json_method_that_returns_itself(self) -> None:
        class Loop:
            def __json__(self) -> object:
                return self

        with pytest.raises(EncodeError, match="holds itself"):
            serializer.dumps(Loop())

    def test_a_list_that_holds_itself(self) -> None:
        value: list = []
        value.append(value)

        with pytest.raises(EncodeError, match="holds itself"):
            serializer.dumps(value)

    @pytest.mark.parametrize("extra", [[], [date(2020, 1, 1)]])
    def test_a_dict_that_would_not_be_read_back(self, extra: list) -> None:
        with pytest.raises(EncodeError, match="rename a key"):
            serializer.dumps([*extra, {"__type__": "mine", "__value__": 1}])

    def test_a_tagged_dict_that_can_be_read_back_passes(self) -> None:
        data = serializer.dumps([{"__type__": "date", "__value__": "2020-01-01"}])

        assert serializer.loads(data) == [date(2020, 1, 1)]


class TestDepth:
    @pytest.mark.parametrize("leaf", [[], [date(2020, 1, 1)], [1.5]])
    def test_the_deepest_that_is_written_is_read(self, leaf: list) -> None:
        value = leaf
        for _ in range(MAX_DEPTH - 2):  # a date is an object, one level more
            value = [value]

        assert serializer.loads(serializer.dumps(value)) == value

    def test_the_limit_is_exact_both_ways(self) -> None:
        assert serializer.loads(serializer.dumps(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
        with pytest.raises(EncodeError, match="deeper than 200"):
            serializer.dumps(nested(MAX_DEPTH + 1))
        with pytest.raises(DecodeError, match="deeper than 200"):
            serializer.loads(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))

    @pytest.mark.parametrize("levels", [300, 3_000, 200_000])
    def test_too_deep_to_write(self, levels: int) -> None:
        value = nested(levels)

        with pytest.raises(EncodeError):
            serializer.dumps(value)
        while value:  # taken apart by hand: Python's own way is recursive
            value = value[0]

    @pytest.mark.parametrize("levels", [201, 3_000, 500_000])
    @pytest.mark.parametrize("pair", ["[]", "{}"])
    def test_too_deep_to_read(self, levels: int, pair: str) -> None:
        opening = {"[": b"[", "{": b'{"a":'}[pair[0]]
        data = opening * levels + b"1" + pair[1].encode() * levels

        with pytest.raises(DecodeError):
            serializer.loads(data)

    def test_brackets_that_never_close(self) -> None:
        with pytest.raises(DecodeError):
            serializer.loads(b"[" * 500_000)

    def test_brackets_in_strings_do_not_count(self) -> None:
        value = ["[" * 1000, 'a"[' * 300, "\\", "]" * 1000, '\\"[{' * 300, {"[" * 300: 1}]

        assert serializer.loads(serializer.dumps(value)) == value

    def test_closing_brackets_in_strings_hide_no_depth(self) -> None:
        data = b'["]",' * 300 + b"1" + b"]" * 300

        with pytest.raises(DecodeError, match="deeper"):
            serializer.loads(data)

    def test_many_shallow_brackets_pass(self) -> None:
        value = [{"a": [i, {}]} for i in range(1000)]

        assert serializer.loads(serializer.dumps(value)) == value

    @given(
        st.recursive(
            st.text(alphabet='[]{}"\\x') | st.integers(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[]{}"\\'), inner),
        ),
        st.integers(0, 6),
    )
    def test_depth_is_measured_exactly(self, value: object, limit: int) -> None:
        def depth(part: object) -> int:
            if isinstance(part, dict):
                part = list(part.values())
            return 1 + max(map(depth, part), default=0) if isinstance(part, list) else 0

        assert is_deeper(json.dumps(value).encode(), limit) == (depth(value) > limit)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


class Coin(Money):
    pass


def with_money() -> JsonSerializer:
    own = JsonSerializer()
    own.register_type(
        Money,
        "money",
        lambda money: {"cents": money.cents, "on": date(2020, 1, 1)},
        lambda raw: Money(raw["cents"]),
    )
    return own


class TestRegisteredTypes:
    def test_a_type_of_the_users_comes_back(self) -> None:
        own = with_money()

        assert own.loads(own.dumps({"a": Money(5)})) == {"a": Money(5)}

    def test_it_is_tagged_as_kombu_does(self) -> None:
        assert json.loads(with_money().dumps(Money(5))) == {
            "__type__": "money",
            "__value__": {"cents": 5, "on": {"__type__": "date", "__value__": "2020-01-01"}},
        }

    def test_subclasses_go_as_the_registered_class(self) -> None:
        own = with_money()

        assert type(own.loads(own.dumps(Coin(5)))) is Money

    def test_another_serializer_does_not_know_it(self) -> None:
        data = with_money().dumps(Money(5))

        with pytest.raises(DecodeError, match="'money' is not known"):
            serializer.loads(data)
        with pytest.raises(EncodeError):
            serializer.dumps(Money(5))

    def test_a_failing_decoder_is_a_decode_error(self) -> None:
        with pytest.raises(DecodeError, match="'money' is malformed"):
            with_money().loads(b'{"__type__":"money","__value__":{}}')

    def test_an_enum_can_keep_its_type(self) -> None:
        own = JsonSerializer()
        own.register_type(Colour, "colour", lambda member: member.name, lambda raw: Colour[raw])

        assert own.loads(own.dumps([Colour.RED])) == [Colour.RED]

    def test_registering_again_replaces(self) -> None:
        own = with_money()
        own.register_type(Money, "money", lambda money: money.cents, Money)

        assert own.loads(own.dumps(Money(7))) == Money(7)

    @pytest.mark.parametrize("marker", ["", "datetime", "bytes", "base64"])
    def test_a_marker_must_be_free(self, marker: str) -> None:
        with pytest.raises(ConfigError):
            JsonSerializer().register_type(Money, marker, lambda money: money.cents, Money)


def test_is_what_messages_say_it_is() -> None:
    assert (serializer.name, serializer.content_type) == ("json", "application/json")
    assert (serializer.content_encoding, serializer.safe) == ("utf-8", True)
