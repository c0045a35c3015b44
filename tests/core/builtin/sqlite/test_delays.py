"""Delayed messages in a file: what the contract doesn't say of every broker."""

from __future__ import annotations

import pytest

from umbel.messages import Malformed
from umbel_testing.samples import message

LATER_S = 864_000.0


def later(broker, clock, queue="q", after_s=LATER_S):
    broker.send([message(queue, due_at=clock.time() + after_s)])
    return broker.delayed(queue)[-1]


def test_receipt_names_no_other_message_though_the_row_number_is_used_again(broker, clock):
    old = later(broker, clock)
    assert broker.drop_delayed([old.receipt]) == 1
    new = later(broker, clock, after_s=LATER_S + 1)
    assert new.receipt.partition("@")[0] == old.receipt.partition("@")[0]

    assert broker.promote([old.receipt]) == broker.drop_delayed([old.receipt]) == 0
    assert broker.delayed("q") == [new]


def test_receipt_names_no_other_delay_of_the_same_message(broker, clock):
    listed = later(broker, clock)
    broker.promote([listed.receipt])
    broker.nack(broker.receive(["q"], max_messages=1, wait_s=0), delay_s=60)

    assert broker.drop_delayed([listed.receipt]) == 0
    assert len(broker.delayed("q")) == 1


@pytest.mark.parametrize(
    "receipt", ["", "1", "@", "1@", "@1.0", "x@1.0", "1@x", "1@nan", f"{2**70}@1.0", "-1@1.0", "é"]
)
def test_what_is_no_receipt_names_nothing(broker, clock, receipt):
    later(broker, clock)

    assert (broker.promote([receipt]), broker.drop_delayed([receipt])) == (0, 0)


def test_age_of_a_promoted_message_begins_with_its_promotion(broker, clock):
    delayed = later(broker, clock)
    clock.advance(100)
    broker.promote([delayed.receipt])
    clock.advance(5)

    assert broker.stats("q").oldest_age_s == pytest.approx(5)


def test_damaged_message_is_listed_and_can_be_dropped(broker, clock, query):
    later(broker, clock)
    query("UPDATE messages SET headers = x'7b'")

    [found] = broker.delayed()
    assert isinstance(found.message, Malformed)
    assert broker.drop_delayed([found.receipt]) == 1


def test_damaged_time_hides_nothing_and_is_not_listed(broker, clock, query):
    later(broker, clock)
    good = later(broker, clock, after_s=LATER_S + 1)
    query("UPDATE messages SET due_at = 'soon' WHERE seq = 1")

    assert broker.delayed() == [good]


def test_page_of_many_is_found_in_the_index(broker, clock):
    now = clock.time()
    broker.send([message("q", id=str(n), due_at=now + n + 1) for n in range(2000)])

    page = broker.delayed(limit=3, offset=1500)
    assert [one.message.id for one in page] == ["1500", "1501", "1502"]
