"""The contract of a serializer (umbel.interfaces.serializer) as tests.

    class TestMySerializer(SerializerSuite):
        @pytest.fixture
        def make_serializer(self):
            return MySerializer

        extended_types = frozenset({datetime})

A type of `EXTENDED` that isn't declared must be refused: silently turned into something else, it
would reach a task as what nobody sent.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

import pytest

from umbel.errors import DecodeError, EncodeError
from umbel.interfaces.serializer import Serializer
from umbel_testing.kit import Running, Suite, missing_fixture

_EAST = timezone(timedelta(hours=5, minutes=45))

#: Types beyond JSON's own, with values that are easily got wrong.
EXTENDED: Mapping[type, Sequence[Any]] = MappingProxyType(
    {
        datetime: (
            datetime(2030, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1969, 12, 31, 1, 2, 3, tzinfo=_EAST),
            datetime(2030, 1, 1),  # noqa: DTZ001  a naive one must stay naive
        ),
        date: (date(2030, 1, 31), date(1, 1, 1)),
        time: (time(23, 59, 59, 999_999), time(0, 0), time(12, 30, tzinfo=_EAST)),
        timedelta: (timedelta(days=-1, microseconds=1), timedelta(0)),
        UUID: (UUID(int=0), UUID("12345678-1234-5678-1234-567812345678")),
        Decimal: (Decimal("0.10"), Decimal("-1E+100"), Decimal(0)),
        bytes: (b"", b"plain", bytes(range(256))),
    }
)
#: What JSON can say.
PLAIN: Sequence[Any] = (
    None, True, False, 0, -1, 2**53, 1.5, -0.1, 1e300, "", "text",
    "Ünïcødé ✓ 漢字 \U0001f33f \x00 \t \" \\ '", [], {}, [[]], {"": ""},
    [[1, [2, {"a": [None]}]], {"b": {"c": 1}}, {"callbacks": None, "chain": None}],
)  # fmt: skip
_DEEP = 100_000
_SEED = 20_300_101


#: What happened where decoding ran code.
_SPRUNG: list[str] = []


def _spring() -> None:
    _SPRUNG.append("code of the sender's was run")


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (_spring, ())


_TRAP_IN_YAML = f"!!python/object/apply:{__name__}._spring []".encode()


class SerializerSuite(Suite):
    """All that is promised of every serializer."""

    #: Which types of `EXTENDED` come back as what they were.
    extended_types: ClassVar[frozenset[type]] = frozenset(EXTENDED)
    #: Bytes that are hard to read; each may be refused or decoded, by no other exception.
    hostile: ClassVar[Sequence[bytes]] = (
        b"",
        b" ",
        b"\x00",
        b"\xff\xfe",
        b"\xc3",
        b'"\xed\xa0\x80"',
        b"[" * _DEEP,
        b"[" * _DEEP + b"]" * _DEEP,
        b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
        b"9" * 10_000,
        b'{"__type__": "datetime", "__value__": 5}',
        b'{"__type__": "datetime", "__value__": "never"}',
        b'{"__type__": "uuid", "__value__": {"hex": "zz"}}',
        b'{"__type__": "decimal", "__value__": "1,5"}',
        b'{"__type__": ["unhashable"], "__value__": null}',
        b'{"__type__": "os.system", "__value__": "true"}',
    )

    _made: Serializer

    @pytest.fixture
    def make_serializer(self) -> Callable[[], Serializer]:
        """Return a function that makes a serializer. To be overridden."""
        missing_fixture(self, "make_serializer", "a function that makes a serializer")

    @pytest.fixture(autouse=True)
    def _with_serializer(self, make_serializer: Callable[[], Serializer]) -> Iterator[None]:
        self.begin(make_serializer)
        yield

    def begin(self, make_serializer: Callable[[], Serializer]) -> None:
        """Set up a test; the fixture does it."""
        self._made = make_serializer()

    def end(self) -> None:
        """Do nothing: a serializer holds nothing. There for symmetry with the other suites."""

    def test_serializer_names_itself_and_its_content(self) -> None:
        made = self._made

        assert isinstance(made, Serializer)
        assert made.name
        assert made.name == made.name.lower()
        assert made.content_type.count("/") == 1
        assert made.content_encoding in ("utf-8", "binary")

    def test_plain_values_come_back_equal_and_of_the_same_type(self) -> None:
        for value in PLAIN:
            self._assert_comes_back(value)

    def test_encoded_value_is_bytes_and_text_where_it_says_so(self) -> None:
        for value in PLAIN:
            data = self._made.dumps(value)
            assert type(data) is bytes
            if self._made.content_encoding == "utf-8":
                assert data.decode("utf-8")

    def test_message_body_comes_back_as_a_list_of_three(self) -> None:
        body = ((1, "two"), {"three": 3}, {"callbacks": None, "chord": None})
        args, kwargs, embed = self._made.loads(self._made.dumps(body))

        assert (list(args), kwargs, embed) == ([1, "two"], body[1], body[2])

    def test_numbers_come_back_exactly_or_are_refused(self) -> None:
        for value in (2**63 - 1, -(2**63), 2**64, 2**200, -(2**200), 0.1 + 0.2, 5e-324):
            self._assert_exact_or_refused(value)

    def test_declared_types_come_back_as_what_they_were(self) -> None:
        for kind in self.extended_types:
            for value in EXTENDED[kind]:
                self._assert_comes_back(value)

    def test_declared_types_come_back_from_within_other_values(self) -> None:
        values = [value for kind in self.extended_types for value in EXTENDED[kind]]
        self._assert_comes_back([values, {"values": values}, {"deeper": [{"still": values}]}])

    def test_types_that_are_not_declared_are_refused(self) -> None:
        for kind in EXTENDED.keys() - self.extended_types:
            for value in EXTENDED[kind]:
                with pytest.raises(EncodeError):
                    self._made.dumps({"value": [value]})

    def test_refusal_names_the_path_to_what_cannot_be_encoded(self) -> None:
        with pytest.raises(EncodeError) as refusal:
            self._made.dumps({"outer": ["fine", {"inner": object()}]})

        text = str(refusal.value)
        assert text.find("outer") < text.find("1") < text.find("inner")
        assert "outer" in text
        assert "object" in text

    def test_what_cannot_be_encoded_is_refused_by_encode_error_alone(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for value in (object(), len, {1, 2}, 1j, iter(()), object, circle):
            with pytest.raises(EncodeError):
                self._made.dumps([value])

    def test_deeply_nested_value_is_refused_or_comes_back(self) -> None:
        value: Any = []
        for _ in range(_DEEP):
            value = [value]
        try:
            data = self._made.dumps(value)
        except EncodeError:
            return
        self._assert_decodes_or_refuses(data)

    def test_text_that_is_not_unicode_comes_back_or_is_refused(self) -> None:
        for value in ("\ud800", "a\udfffb"):
            self._assert_exact_or_refused(value)

    def test_value_is_not_changed_by_encoding(self) -> None:
        value = {"list": [1, {"a": "b"}], "tuple": (1, 2)}
        self._made.dumps(value)

        assert value == {"list": [1, {"a": "b"}], "tuple": (1, 2)}

    def test_hostile_bytes_raise_decode_error_alone(self) -> None:
        for data in self.hostile:
            self._assert_decodes_or_refuses(data)

    def test_truncated_bytes_raise_decode_error_alone(self) -> None:
        data = self._made.dumps({"list": [1, 2.5, "täxt", None], "dict": {"a": {"b": True}}})
        for end in range(len(data)):
            self._assert_decodes_or_refuses(data[:end])
        with pytest.raises(DecodeError):
            self._made.loads(data[:-1])

    def test_damaged_bytes_raise_decode_error_alone(self) -> None:
        random = Random(_SEED)
        values = [value for kind in self.extended_types for value in EXTENDED[kind]]
        data = self._made.dumps([list(PLAIN), values])
        for _ in range(500):
            damaged = bytearray(data)
            for _ in range(random.randint(1, 4)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            self._assert_decodes_or_refuses(bytes(damaged))

    def test_safe_serializer_runs_no_code_of_its_bytes(self) -> None:
        _SPRUNG.clear()
        for data in (pickle.dumps(_Trap()), pickle.dumps(_Trap(), protocol=0), _TRAP_IN_YAML):
            self._assert_decodes_or_refuses(data)

        assert not (self._made.safe and _SPRUNG)

    def test_threads_do_not_disturb_each_other(self) -> None:
        def work(number: int) -> bool:
            value = {"number": number, "list": list(range(number))}
            return all(self._made.loads(self._made.dumps(value)) == value for _ in range(50))

        threads = [Running(partial(work, number)) for number in range(8)]
        assert all(thread.result(self.patience_s) for thread in threads)

    def _assert_comes_back(self, value: Any) -> None:
        found = self._made.loads(self._made.dumps(value))
        assert found == value
        assert type(found) is type(value)
        assert repr(found) == repr(value)  # equal is not enough: 1 == 1.0 == True

    def _assert_exact_or_refused(self, value: Any) -> None:
        try:
            data = self._made.dumps([value])
        except EncodeError:
            return
        assert self._made.loads(data) == [value]

    def _assert_decodes_or_refuses(self, data: bytes) -> None:
        try:
            self._made.loads(data)
        except DecodeError:
            return
