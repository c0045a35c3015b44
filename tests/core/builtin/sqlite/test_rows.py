from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.builtin.sqlite.rows import message_row, read_delivery, read_message, read_receipt
from umbel.errors import BrokerError
from umbel.messages import Delivery, Malformed, Message
from umbel_testing.samples import full_message, message

ANYTHING = (
    st.none() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=40)
)  # fmt: skip


def columns(of: Message) -> tuple:
    task_id, queue, priority, *_, headers, extras, body = message_row(of, 0.0)
    return task_id, queue, priority, headers, extras, body


def test_every_field_comes_back():
    original = full_message("q")

    assert read_message(*columns(original)) == original


def test_common_message_needs_no_extras():
    # Texts of other modules are equal to the defaults, not the same objects.
    usual = message("q", content_type="application" + "/json", content_encoding="utf" + "-8")

    assert columns(usual)[4] is None
    assert read_message(*columns(usual)) == usual


def test_task_that_headers_do_not_name_comes_back():
    odd = message("q", task="other")

    assert read_message(*columns(odd)) == odd


@pytest.mark.parametrize("field", ["headers", "properties"])
def test_what_json_cannot_hold_is_refused_by_name(field):
    with pytest.raises(BrokerError, match=r"message 'm1'.*JSON"):
        message_row(message("q", id="m1", **{field: {"x": object()}}), 0.0)


@pytest.mark.parametrize(
    "column, value, said",
    [
        (0, None, "column id holds NULL"),
        (0, b"x", "column id holds bytes b'x'"),
        (2, "high", "column priority holds str 'high'"),
        (2, 1.5, "column priority holds float 1.5"),
        (3, '{"task": "t"}', "column headers holds str"),
        (3, None, "column headers holds NULL"),
        (3, b'{"task": "t"', "headers are not a JSON object"),
        (3, b"[1]", "headers are not a JSON object"),
        (3, b'{"task": "\xff"}', "headers are not a JSON object"),
        (3, b'{"a":' * 100_000, "nested too deeply"),
        (3, b"{}", "headers name no task"),
        (3, b'{"task": 5}', "headers name no task"),
        (4, b'{"exchange": 5}', "extras are damaged"),
        (4, 7, "extras are damaged"),
        (4, b"\x00", "extras are damaged"),
        (5, "text", "column body holds str 'text'"),
        (5, None, "column body holds NULL"),
        (5, "x" * 10_000_000, "column body holds str 'xxx"),
    ],
)
def test_damaged_column_makes_it_malformed_with_its_reason(column, value, said):
    row = list(columns(message("q")))
    row[column] = value
    found = read_message(*row)

    assert isinstance(found, Malformed)
    assert said in found.reason
    assert len(found.reason) < 300


def test_malformed_keeps_the_bytes_found():
    row = list(columns(message("q")))
    row[3] = b'{"task": "t'

    assert read_message(*row).raw == b'{"task": "t'


def test_damaged_strikes_make_a_delivery_malformed():
    delivery = read_delivery(9, 1, 2, "many", *columns(message("q")))

    assert delivery == Delivery(
        message=Malformed(raw=b"many", reason="column strikes holds str 'many'"),
        queue="q",
        receipt="1:9",
        token=2,
    )


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_anything_is_read_without_an_error(strikes, id, queue, priority, headers, extras, body):
    delivery = read_delivery(1, 1, 1, strikes, id, queue, priority, headers, extras, body)

    assert isinstance(delivery.message, (Message, Malformed))


@given(st.binary(max_size=200))
def test_any_headers_and_extras_are_read_without_an_error(raw):
    row = columns(message("q"))

    assert isinstance(read_message(*row[:3], raw, None, b""), (Message, Malformed))
    assert isinstance(read_message(*row[:4], raw, b""), (Message, Malformed))


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.booleans()))
def test_any_json_headers_come_back(headers):
    original = message("q", headers={**headers, "task": "kit.add"})

    assert read_message(*columns(original)) == original


@pytest.mark.parametrize("receipt", ["", "5", "5:", ":5", "a:b", "5:6:7", "1.5:2"])
def test_foreign_receipt_is_none(receipt):
    assert read_receipt(receipt) is None


def test_receipt_comes_back():
    delivery = read_delivery(1 << 62, 7, 1, 0, *columns(message("q")))

    assert read_receipt(delivery.receipt) == (7, 1 << 62)


def test_extras_stay_readable_by_people():
    extras = columns(message("q", reply_to="me", routing_key="k"))[4]

    assert msgspec.json.decode(extras) == {"reply_to": "me", "routing_key": "k"}
