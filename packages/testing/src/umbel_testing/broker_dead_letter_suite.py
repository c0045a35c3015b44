"""Part of `BrokerSuite`: what won't be tried again by itself, and sending it once more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from umbel.errors import UmbelError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Burial, DeadLetter, DeathKind, QueueStats
from umbel_testing.broker_kit import BrokerKit, ids, needs, sent
from umbel_testing.samples import ODD_HEADERS, full_message, message


class BrokerDeadLetterSuite(BrokerKit):
    """Capability DEAD_LETTER."""

    @needs(Capability.DEAD_LETTER)
    def test_buried_message_is_a_dead_letter_with_its_reason(self) -> None:
        broker, queue = self.open(), self.unique("dead")
        [original] = sent(broker, queue, 1)
        broker.nack(self.take(broker, queue, 1))
        held = self.take(broker, queue, 1)
        before = self.now()
        broker.bury([Burial(held[0], "no such task: 'kit.add'")])

        [letter] = broker.dead_letters(queue)
        assert (letter.message, letter.queue) == (original, queue)
        assert (letter.reason, letter.deliveries) == ("no such task: 'kit.add'", 2)
        assert before - self.grace_s <= letter.died_at <= self.now() + self.grace_s

    @needs(Capability.DEAD_LETTER)
    def test_buried_message_is_neither_held_nor_received_again(self) -> None:
        broker, queue = self.open(), self.unique("dead")
        sent(broker, queue, 2)
        held = self.take(broker, queue, 2)
        broker.bury([Burial(held[0], "first"), Burial(held[1], "second")])
        broker.nack(held)

        self.assert_nothing(broker, queue)
        assert list(broker.ack(held)) == held
        if Capability.INSPECT in broker.capabilities:
            assert broker.stats(queue) == QueueStats(name=queue, dead=2)

    @needs(Capability.DEAD_LETTER)
    def test_late_burial_is_passed_over(self) -> None:
        broker, queue = self.open(), self.unique("late")
        sent(broker, queue, 1)
        late = self.take(broker, queue, 1)
        broker.nack(late)
        held = self.take(broker, queue, 1)
        broker.bury([Burial(late[0], "too late")])

        assert list(broker.dead_letters(queue)) == []
        assert list(broker.ack(held)) == []

    @needs(Capability.DEAD_LETTER)
    def test_dead_letters_come_newest_first_in_pages(self) -> None:
        broker, queue = self.open(), self.unique("dead")
        sent(broker, queue, 3)
        first, second, third = self.take(broker, queue, 3)
        for reason, delivery in (("0", second), ("1", third), ("2", first)):
            broker.bury([Burial(delivery, reason)])

        def reasons(limit: int, offset: int) -> list[str]:
            letters = broker.dead_letters(queue, limit=limit, offset=offset)
            return [letter.reason for letter in letters]

        assert (reasons(2, 0), reasons(2, 2), reasons(2, 4)) == (["2", "1"], ["0"], [])

    @needs(Capability.DEAD_LETTER)
    def test_dead_letters_are_listed_by_queue_or_all_together(self) -> None:
        broker, queues = self.open(), [self.unique("dead") for _ in range(2)]
        for queue in queues:
            sent(broker, queue, 1)
            broker.bury([Burial(delivery, queue) for delivery in self.take(broker, queue, 1)])

        assert [letter.reason for letter in broker.dead_letters(queues[0])] == queues[:1]
        everything = [letter.reason for letter in broker.dead_letters(limit=1000)]
        assert [reason for reason in everything if reason in queues] == queues[::-1]

    @needs(Capability.DEAD_LETTER)
    def test_dead_letter_tells_its_kind_and_details(self) -> None:
        broker, queue = self.open(), self.unique("dead")
        sent(broker, queue, 2)
        first, second = self.take(broker, queue, 2)
        details = {"attempts": [{"at": 1.5, "signal": None}], "odd": ODD_HEADERS}
        broker.bury([Burial(first, "died", DeathKind.POISON, details), Burial(second, "odd")])

        told = {letter.kind: letter.details for letter in broker.dead_letters(queue)}
        assert told == {"poison": details, "malformed": {}}

    @needs(Capability.DEAD_LETTER)
    def test_dropped_dead_letters_are_gone_and_the_others_stay(self) -> None:
        broker, queue = self.open(), self.unique("dead")
        newest, middle, oldest = self._dead(broker, queue, 3)

        assert broker.drop_dead([newest.receipt, oldest.receipt]) == 2
        assert broker.drop_dead([newest.receipt, "no receipt of this broker"]) == 0
        assert broker.drop_dead([]) == 0
        assert list(broker.dead_letters(queue)) == [middle]

    @needs(Capability.DEAD_LETTER)
    def test_replayed_message_takes_the_place_of_its_dead_letter(self) -> None:
        broker, queue, other = self.open(), self.unique("dead"), self.unique("other")
        stays, letter = self._dead(broker, queue, 2)
        again = full_message(other)

        assert list(broker.replay([(letter.receipt, again)])) == []
        assert list(broker.dead_letters(queue)) == [stays]
        [delivery] = self.take(broker, other, 1)
        assert (delivery.message, delivery.token, delivery.strikes) == (again, 1, 0)

    @needs(Capability.DEAD_LETTER)
    def test_replay_of_what_is_not_there_tells_so_and_sends_the_others(self) -> None:
        broker, queue, after = self.open(), self.unique("dead"), self.unique("after")
        there, gone = self._dead(broker, queue, 2)
        broker.drop_dead([gone.receipt])
        again = message(after)
        replays = [(gone.receipt, message(after)), (there.receipt, again), ("none", message(after))]

        assert list(broker.replay(replays)) == [gone.receipt, "none"]
        assert ids(self.take(broker, after, 1)) == [again.id]
        self.assert_nothing(broker, after)

    @needs(Capability.DEAD_LETTER)
    def test_dead_letter_is_replayed_once_by_one_winner(self) -> None:
        broker, queue, after = self.open(), self.unique("dead"), self.unique("after")
        letters = self._dead(broker, queue, 5)
        messages = {letter.receipt: message(after) for letter in letters}
        handles = [self.raw_handle() for _ in range(4)]
        with ThreadPoolExecutor(len(handles)) as threads:
            gone = list(threads.map(lambda one: one.replay(list(messages.items())), handles))

        assert sorted(len(each) for each in gone) == [0, 5, 5, 5]
        assert sorted(ids(self.take(broker, after, 5))) == sorted(m.id for m in messages.values())
        self.assert_nothing(broker, after)

    @needs(Capability.DEAD_LETTER)
    def test_failed_replay_sends_nothing_and_keeps_the_dead_letters(self) -> None:
        broker, queue, after = self.open(), self.unique("dead"), self.unique("after")
        letters = self._dead(broker, queue, 2)
        broken = message(after, headers={"x": object()})
        with pytest.raises(UmbelError):
            broker.replay([(letters[0].receipt, message(after)), (letters[1].receipt, broken)])

        assert list(broker.dead_letters(queue)) == letters
        self.assert_nothing(broker, after)

    @needs(Capability.DEAD_LETTER)
    def test_replay_wakes_who_waits_for_the_queue(self) -> None:
        broker, queue, after = self.open(), self.unique("dead"), self.unique("after")
        [letter] = self._dead(broker, queue, 1)
        waiting = self.receiving(self.open(), after)
        again = message(after)
        broker.replay([(letter.receipt, again)])

        assert ids(waiting.result(self.patience_s)) == [again.id]

    @needs(Capability.DEAD_LETTER, Capability.BOUNDED)
    def test_replay_keeps_to_no_bound(self) -> None:
        broker, queue, full = self.open(), self.unique("dead"), self.unique("full")
        [letter] = self._dead(broker, queue, 1)
        broker.configure(once_window_s=60.0, bounds={full: 1})
        [first] = sent(broker, full, 1)
        again = message(full)

        assert list(broker.replay([(letter.receipt, again)])) == []
        assert ids(self.take(broker, full, 2)) == [first.id, again.id]

    def _dead(self, broker: Broker, queue: str, count: int) -> list[DeadLetter]:
        """Bury `count` messages; return their letters, newest first."""
        sent(broker, queue, count)
        broker.bury([Burial(each, "of the kit") for each in self.take(broker, queue, count)])
        letters = list(broker.dead_letters(queue))
        assert len({letter.receipt for letter in letters}) == count
        return letters
