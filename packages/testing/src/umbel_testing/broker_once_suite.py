"""Part of `BrokerSuite`: messages that are taken once."""

from __future__ import annotations

import threading
from typing import ClassVar

import pytest

from umbel.errors import AlreadySentError, UmbelError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Burial, Message, OnConflict
from umbel_testing.broker_kit import BrokerKit, ids, message_of, needs
from umbel_testing.kit import Running
from umbel_testing.samples import message

_SENDERS = 8
_LATER_S = 864_000.0


class BrokerOnceSuite(BrokerKit):
    """Capability UNIQUE."""

    #: Seconds that a message is known after its ack, where a test waits that out.
    once_window_s: ClassVar[float] = 1.0

    @needs(Capability.UNIQUE)
    def test_message_sent_once_is_received_as_it_was_sent(self) -> None:
        broker, queue = self.open(), self.unique("once")
        messages = [message(queue, priority=3), message(queue, priority=3)]

        assert list(broker.send_once(messages)) == []
        assert [one.message for one in self.take(broker, queue, 2)] == messages
        assert list(broker.send_once([])) == []

    @needs(Capability.UNIQUE)
    def test_known_message_is_passed_over_and_told(self) -> None:
        broker, queue = self.open(), self.unique("once")
        known = [message(queue), message(queue)]
        broker.send_once(known)
        new = message(queue)
        told = self.raw_handle().send_once([known[1], new, known[0]], on_conflict=OnConflict.RETURN)

        assert list(told) == [known[1].id, known[0].id]
        assert ids(self.take(broker, queue, 3)) == [known[0].id, known[1].id, new.id]
        self.assert_nothing(broker, queue)

    @needs(Capability.UNIQUE)
    def test_raise_names_the_known_and_stores_nothing(self) -> None:
        broker, queue = self.open(), self.unique("once")
        known, new = message(queue), message(queue)
        broker.send_once([known])
        with pytest.raises(AlreadySentError) as caught:
            broker.send_once([new, known], on_conflict=OnConflict.RAISE)

        assert caught.value.task_ids == (known.id,)
        assert ids(self.take(broker, queue, 1)) == [known.id]
        self.assert_nothing(broker, queue)
        assert list(broker.send_once([new], on_conflict=OnConflict.RAISE)) == []

    @needs(Capability.UNIQUE)
    def test_message_twice_in_one_call_counts_once(self) -> None:
        broker, queue = self.open(), self.unique("once")
        twice = message(queue)

        assert list(broker.send_once([twice, twice], on_conflict=OnConflict.RAISE)) == []
        assert ids(self.take(broker, queue, 1)) == [twice.id]
        self.assert_nothing(broker, queue)

    @needs(Capability.UNIQUE)
    def test_refused_call_stores_nothing_and_knows_nothing(self) -> None:
        broker, queue = self.open(), self.unique("once")
        good = message(queue)
        with pytest.raises(UmbelError):
            broker.send_once([good, message(queue, headers={"x": object()})])

        self.assert_nothing(broker, queue)
        assert list(broker.send_once([good], on_conflict=OnConflict.RAISE)) == []

    @needs(Capability.UNIQUE)
    def test_message_stays_known_while_it_is_held_and_when_it_is_given_back(self) -> None:
        broker, queue = self.open(), self.unique("once")
        broker.configure(once_window_s=0.0, bounds={})
        known = message(queue)
        broker.send_once([known])
        held = self.take(broker, queue, 1)
        while_held = list(broker.send_once([known]))
        broker.nack(held)

        assert while_held == [known.id]
        assert list(broker.send_once([known])) == [known.id]

    @needs(Capability.UNIQUE, Capability.DELAY)
    def test_delayed_message_is_known(self) -> None:
        broker, queue = self.open(), self.unique("once")
        delayed = message(queue, due_at=self.now() + _LATER_S)
        broker.send_once([delayed])

        assert list(broker.send_once([message(queue, id=delayed.id)])) == [delayed.id]
        self.assert_nothing(broker, queue)

    @needs(Capability.UNIQUE)
    def test_finished_message_is_known_for_the_window_alone(self) -> None:
        broker, queue = self.open(), self.unique("once")
        broker.configure(once_window_s=self.once_window_s, bounds={})
        known = message(queue)
        broker.send_once([known])
        before = self.now()
        broker.ack(self.take(broker, queue, 1))
        in_the_window = list(broker.send_once([known]))
        too_slow = self.now() >= before + self.once_window_s
        self.pass_time(self.once_window_s + self.soon_s)

        assert in_the_window == [known.id] or too_slow
        assert list(broker.send_once([known])) == [] or too_slow
        assert ids(self.take(broker, queue, 1)) == [known.id]

    @needs(Capability.UNIQUE, Capability.DEAD_LETTER)
    def test_dead_letter_is_not_known(self) -> None:
        broker, queue = self.open(), self.unique("once")
        dead = message(queue)
        broker.send_once([dead])
        [delivery] = self.take(broker, queue, 1)
        broker.bury([Burial(delivery, "no such task")])

        assert list(broker.send_once([dead], on_conflict=OnConflict.RAISE)) == []
        assert ids(self.take(broker, queue, 1)) == [dead.id]

    @needs(Capability.UNIQUE)
    def test_another_attempt_is_another_message(self) -> None:
        broker, queue = self.open(), self.unique("once")
        first = message(queue)
        second = message(queue, id=first.id, headers={**first.headers, "retries": 1})

        assert list(broker.send_once([first, second], on_conflict=OnConflict.RAISE)) == []
        assert list(broker.send_once([second, first])) == [first.id, first.id]
        assert [message_of(one) for one in self.take(broker, queue, 2)] == [first, second]

    # -- replace ------------------------------------------------------------------------------

    @needs(Capability.UNIQUE)
    def test_replace_takes_the_place_of_what_waits(self) -> None:
        broker, queue = self.open(), self.unique("once")
        old, after = message(queue), message(queue)
        broker.send_once([old, after])
        new = message(queue, id=old.id, body=b"[[4], {}, {}]", headers={**old.headers, "x": 1})

        assert list(broker.send_once([new], on_conflict=OnConflict.REPLACE)) == [old.id]
        assert [message_of(one) for one in self.take(broker, queue, 2)] == [new, after]
        self.assert_nothing(broker, queue)

    @needs(Capability.UNIQUE, Capability.PRIORITY)
    def test_replace_takes_the_new_priority_and_queue(self) -> None:
        broker, queue, other = self.open(), self.unique("once"), self.unique("other")
        low, stays, moves = message(queue), message(queue), message(queue)
        broker.send_once([stays, low, moves])
        urgent, moved = message(queue, id=low.id, priority=9), message(other, id=moves.id)
        broker.send_once([urgent, moved], on_conflict=OnConflict.REPLACE)

        assert [message_of(one) for one in self.take(broker, queue, 2)] == [urgent, stays]
        assert [message_of(one) for one in self.take(broker, other, 1)] == [moved]
        self.assert_nothing(broker, queue, other)

    @needs(Capability.UNIQUE, Capability.DELAY)
    def test_replace_takes_the_new_due_time(self) -> None:
        broker, queue = self.open(), self.unique("once")
        late, soon = message(queue, due_at=self.now() + _LATER_S), message(queue)
        broker.send_once([late, soon])
        now_due = message(queue, id=late.id)
        put_off = message(queue, id=soon.id, due_at=self.now() + _LATER_S)
        broker.send_once([now_due, put_off], on_conflict=OnConflict.REPLACE)

        assert [message_of(one) for one in self.take(broker, queue, 1)] == [now_due]
        self.assert_nothing(broker, queue)

    @needs(Capability.UNIQUE)
    def test_replace_of_what_is_held_raises_and_stores_nothing(self) -> None:
        broker, queue = self.open(), self.unique("once")
        held, new = message(queue), message(queue)
        broker.send_once([held])
        deliveries = self.take(broker, queue, 1)
        with pytest.raises(AlreadySentError) as caught:
            broker.send_once([new, held], on_conflict=OnConflict.REPLACE)

        assert caught.value.task_ids == (held.id,)
        self.assert_nothing(broker, queue)
        assert list(broker.ack(deliveries)) == []

    @needs(Capability.UNIQUE)
    def test_replace_of_what_is_finished_sends_it_anew(self) -> None:
        broker, queue = self.open(), self.unique("once")
        done, unknown = message(queue), message(queue)
        broker.send_once([done])
        broker.ack(self.take(broker, queue, 1))
        broker.send_once([done, unknown], on_conflict=OnConflict.REPLACE)

        assert ids(self.take(broker, queue, 2)) == [done.id, unknown.id]
        assert list(broker.send_once([done])) == [done.id]

    # -- follow-ups ---------------------------------------------------------------------------

    @needs(Capability.UNIQUE)
    def test_follow_up_is_sent_once_however_often_it_is_settled(self) -> None:
        broker, queue, after = self.open(), self.unique("once"), self.unique("after")
        broker.send([message(queue), message(queue)])
        first, second = self.take(broker, queue, 2)
        follow_up, other = message(after), message(after)
        broker.settle([first], [follow_up])

        assert list(broker.settle([first], [follow_up])) == [first]
        broker.ack(self.take(broker, after, 1))
        assert list(broker.settle([second], [follow_up, other])) == []
        assert ids(self.take(broker, after, 1)) == [other.id]
        self.assert_nothing(broker, after)

    @needs(Capability.UNIQUE)
    def test_follow_up_that_is_settled_beside_what_it_follows_is_not_sent_again(self) -> None:
        broker, queue, after = self.open(), self.unique("once"), self.unique("after")
        broker.send([message(queue)])
        parent = self.take(broker, queue, 1)
        follow_up = message(after)
        broker.settle(parent, [follow_up])  # say that its reply was lost: it is settled again

        broker.settle([*parent, *self.take(broker, after, 1)], [follow_up])
        self.assert_nothing(broker, after)

    @needs(Capability.UNIQUE)
    def test_follow_up_and_send_once_know_of_each_other(self) -> None:
        broker, queue, after = self.open(), self.unique("once"), self.unique("after")
        broker.send([message(queue)])
        follow_up, sent_before = message(after), message(after)
        broker.send_once([sent_before])
        broker.settle(self.take(broker, queue, 1), [follow_up, sent_before])

        assert list(broker.send_once([follow_up])) == [follow_up.id]
        assert ids(self.take(broker, after, 2)) == [sent_before.id, follow_up.id]
        self.assert_nothing(broker, after)

    @needs(Capability.UNIQUE)
    def test_concurrent_senders_of_one_message_have_one_winner(self) -> None:
        broker, queue = self.open(), self.unique("once")
        contested = [message(queue) for _ in range(5)]
        handles = [self.raw_handle() for _ in range(_SENDERS)]
        begin = threading.Barrier(_SENDERS)
        runs = [Running(lambda h=handle: _wins(h, contested, begin)) for handle in handles]  # type: ignore[misc]
        wins = [won for run in runs for won in run.result(self.patience_s)]

        assert sorted(wins) == sorted(one.id for one in contested)
        assert sorted(ids(self.take(broker, queue, 5))) == sorted(wins)
        self.assert_nothing(broker, queue)


def _wins(broker: Broker, contested: list[Message], begin: threading.Barrier) -> list[str]:
    """Send each of `contested`; return the ids of those that were sent by this."""
    won: list[str] = []
    for one in contested:
        begin.wait()
        try:
            broker.send_once([one], on_conflict=OnConflict.RAISE)
        except AlreadySentError:
            continue
        won.append(one.id)
    return won
