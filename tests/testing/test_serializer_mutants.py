"""Each test of `SerializerSuite` catches a fault planted in a sound serializer."""

from __future__ import annotations

import json
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from umbel.builtin.json_serializer import JsonSerializer
from umbel.errors import DecodeError, EncodeError
from umbel_testing import SerializerSuite
from umbel_testing.mutants import Mutants
from umbel_testing.serializer_suite import EXTENDED


class Suite(SerializerSuite):
    extended_types = frozenset(EXTENDED) - {timedelta}


def make_serializer(kind, clock):
    return kind


MUTANTS = Mutants(Suite, SerializerSuite, make_serializer)


class Changed(JsonSerializer):
    """Puts each part of a value through `change` before it is encoded."""

    def dumps(self, value):
        try:
            value = self.all_changed(value)
        except RecursionError:
            raise EncodeError("nested too deeply") from None
        return super().dumps(value)

    def all_changed(self, value):
        if type(value) in (list, tuple):
            return [self.all_changed(one) for one in value]
        if type(value) is dict:
            return {key: self.all_changed(one) for key, one in value.items()}
        return self.change(value)

    def change(self, value):
        return value


@MUTANTS.caught_by("test_serializer_names_itself_and_its_content")
class HasNoName(JsonSerializer):
    name = ""


@MUTANTS.caught_by("test_plain_values_come_back_equal_and_of_the_same_type")
class TakesTrueForOne(Changed):
    def change(self, value):
        return int(value) if type(value) is bool else value


@MUTANTS.caught_by(
    "test_damaged_bytes_raise_decode_error_alone",
    "test_declared_types_come_back_as_what_they_were",
    "test_declared_types_come_back_from_within_other_values",
    "test_encoded_value_is_bytes_and_text_where_it_says_so",
    "test_message_body_comes_back_as_a_list_of_three",
    "test_numbers_come_back_exactly_or_are_refused",
    "test_plain_values_come_back_equal_and_of_the_same_type",
    "test_text_that_is_not_unicode_comes_back_or_is_refused",
    "test_truncated_bytes_raise_decode_error_alone",
)
class ReturnsText(JsonSerializer):
    def dumps(self, value):
        return super().dumps(value).decode()


@MUTANTS.caught_by("test_encoded_value_is_bytes_and_text_where_it_says_so")
class WritesUtf16(JsonSerializer):
    def dumps(self, value):
        return super().dumps(value).decode().encode("utf-16")

    def loads(self, data):
        try:
            return super().loads(data.decode("utf-16").encode())
        except UnicodeError as error:
            raise DecodeError("not UTF-16") from error


@MUTANTS.caught_by("test_message_body_comes_back_as_a_list_of_three")
class RefusesTuples(Changed):
    def dumps(self, value):
        if isinstance(value, tuple) or (isinstance(value, list) and tuple in map(type, value)):
            raise EncodeError("a tuple")
        return super().dumps(value)


@MUTANTS.caught_by("test_numbers_come_back_exactly_or_are_refused")
class RoundsNumbers(Changed):
    def change(self, value):
        return float(value) if type(value) is int and abs(value) > 2**53 else value


@MUTANTS.caught_by(
    "test_declared_types_come_back_as_what_they_were",
    "test_declared_types_come_back_from_within_other_values",
)
class ForgetsTheZone(Changed):
    def change(self, value):
        return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@MUTANTS.caught_by(
    "test_declared_types_come_back_as_what_they_were",
    "test_declared_types_come_back_from_within_other_values",
)
class AddsAZone(Changed):
    def change(self, value):
        naive = isinstance(value, datetime) and value.tzinfo is None
        return value.replace(tzinfo=UTC) if naive else value


@MUTANTS.caught_by(
    "test_declared_types_come_back_as_what_they_were",
    "test_declared_types_come_back_from_within_other_values",
)
class TakesDecimalsForFloats(Changed):
    def change(self, value):
        return float(value) if isinstance(value, Decimal) else value


@MUTANTS.caught_by("test_declared_types_come_back_from_within_other_values")
class EncodesTypesAtTheTopOnly(JsonSerializer):
    def dumps(self, value):
        if isinstance(value, (list, dict)) and len(value) > 1 and "datetime" in repr(value):
            return json.dumps(value, default=str).encode()
        return super().dumps(value)


@MUTANTS.caught_by("test_types_that_are_not_declared_are_refused")
class WritesUnknownTypesAsText(Changed):
    def change(self, value):
        return str(value) if isinstance(value, timedelta) else value


@MUTANTS.caught_by("test_refusal_names_the_path_to_what_cannot_be_encoded")
class TellsNoPath(JsonSerializer):
    def dumps(self, value):
        try:
            return super().dumps(value)
        except EncodeError:
            raise EncodeError("can't be encoded") from None


@MUTANTS.caught_by("test_what_cannot_be_encoded_is_refused_by_encode_error_alone")
class RaisesTypeError(JsonSerializer):
    def dumps(self, value):
        if (
            "builtin_function"
            in type(value[0] if isinstance(value, list) and value else 0).__name__
        ):
            raise TypeError("a function")
        return super().dumps(value)


@MUTANTS.caught_by("test_deeply_nested_value_is_refused_or_comes_back")
class NestsWithoutBound(JsonSerializer):
    def dumps(self, value):
        depth, part = 0, value
        while isinstance(part, list) and len(part) == 1 and part[0] is not part:
            depth, part = depth + 1, part[0]
        if depth > 1000:
            raise RecursionError
        return super().dumps(value)


@MUTANTS.caught_by("test_text_that_is_not_unicode_comes_back_or_is_refused")
class ReplacesBrokenText(Changed):
    def change(self, value):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


@MUTANTS.caught_by("test_value_is_not_changed_by_encoding")
class EatsTheValue(JsonSerializer):
    def dumps(self, value):
        data = super().dumps(value)
        if isinstance(value, dict) and "tuple" in value:
            value.clear()
        return data


@MUTANTS.caught_by("test_hostile_bytes_raise_decode_error_alone")
class ReadsWithoutBound(JsonSerializer):
    def loads(self, data):
        if data.startswith(b"[[[[[[[["):
            raise RecursionError
        return super().loads(data)


@MUTANTS.caught_by(
    "test_damaged_bytes_raise_decode_error_alone",
    "test_hostile_bytes_raise_decode_error_alone",
    "test_safe_serializer_runs_no_code_of_its_bytes",
    "test_truncated_bytes_raise_decode_error_alone",
)
class LeaksValueError(JsonSerializer):
    def loads(self, data):
        try:
            return super().loads(data)
        except DecodeError as error:
            raise ValueError(str(error)) from error


@MUTANTS.caught_by("test_truncated_bytes_raise_decode_error_alone")
class ReadsWhatIsCutOff(JsonSerializer):
    def loads(self, data):
        try:
            return super().loads(data)
        except DecodeError:
            return super().loads(data + b"}") if data.endswith(b"}") else self.fail()

    def fail(self):
        raise DecodeError("cut off")


@MUTANTS.caught_by("test_damaged_bytes_raise_decode_error_alone")
class FailsOnDamage(JsonSerializer):
    def loads(self, data):
        try:
            data.decode()
        except UnicodeDecodeError:
            if len(data) > 200:
                raise
        return super().loads(data)


@MUTANTS.caught_by("test_safe_serializer_runs_no_code_of_its_bytes")
class Unpickles(JsonSerializer):
    def loads(self, data):
        if data.startswith(b"\x80\x04"):
            return pickle.loads(data)
        return super().loads(data)


@MUTANTS.caught_by("test_threads_do_not_disturb_each_other")
class SharesABuffer(JsonSerializer):
    def dumps(self, value):
        self.data = super().dumps(value)
        time.sleep(0.001 if threading.active_count() > 4 else 0)
        return self.data


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
