"""What the contract doesn't say of every broker: damaged rows, claims, waits, durability."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umbel.builtin.sqlite import transactions
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.schema import CLAIM_BITS, NOBODY
from umbel.errors import BrokerError
from umbel.messages import Burial, Delivery, Malformed, Message
from umbel_testing import FakeClock
from umbel_testing.samples import message


def send(broker, count, queue="q", **fields):
    messages = [message(queue, **fields) for _ in range(count)]
    broker.send(messages)
    return [one.id for one in messages]


def take(broker, count=100, queues=("q",)):
    return broker.receive(queues, max_messages=count, wait_s=0)


def ids(deliveries):
    return [one.message.id for one in deliveries]


# -- order and batches ------------------------------------------------------------------------


def test_batch_comes_in_order_of_priority_then_of_sending(broker):
    sent = [message("q", id=str(n), priority=n % 3) for n in range(30)]
    broker.send(sent)

    expected = sorted(sent, key=lambda one: -one.priority)
    assert ids(take(broker, 7)) + ids(take(broker, 100)) == [one.id for one in expected]


def test_queues_are_emptied_in_order_of_preference(broker):
    second, first = send(broker, 3, "second"), send(broker, 2, "first")

    assert ids(take(broker, 4, ["first", "none", "second"])) == [*first, *second[:2]]


def test_many_queues_are_looked_into(broker):
    names = [f"q{n}" for n in range(450)]
    last = send(broker, 1, names[-1])

    assert ids(take(broker, 5, names)) == last


def test_repeated_queue_names_count_once(broker):
    sent = send(broker, 3)

    assert ids(take(broker, 10, ["q", "q"])) == sent


@pytest.mark.parametrize("arguments", [{"queues": [], "max_messages": 1}, {"max_messages": 0}])
def test_receive_of_nothing_is_a_mistake(broker, arguments):
    with pytest.raises(ValueError, match=r"queue|max_messages"):
        broker.receive(**{"queues": ["q"], "wait_s": 0, **arguments})


def test_batch_that_fails_is_not_stored_in_part(broker):
    with pytest.raises(BrokerError, match="can't be stored"):
        broker.send([message("q"), message("q", id="\ud800"), message("q")])
    with pytest.raises(BrokerError, match="can't be stored"):
        broker.send([message("q"), message("q", priority=2**70)])

    assert broker.stats("q").ready == 0


def test_ten_thousand_messages_are_sent_and_taken(broker):
    sent = send(broker, 10_000)

    assert ids(take(broker, 10_000)) == sent


def test_large_body_comes_back(broker):
    body = bytes(range(256)) * 40_000
    broker.send([message("q", body=body)])

    assert take(broker)[0].message.body == body


def test_large_messages_are_taken_few_at_a_time(broker):
    body, count = bytes(transactions.TAKEN_BYTES // 4 + 1), 5
    broker.send([message("q", id=str(n), body=body) for n in range(count)])
    broker.send([message("q", id="small")])
    broker.send([message("q", id="huge", body=bytes(transactions.TAKEN_BYTES + 1))])
    batches = []
    while taken := take(broker):
        batches.append(ids(taken))
        broker.ack(taken)

    assert batches == [["0", "1", "2"], ["3", "4", "small"], ["huge"]]


def test_due_messages_take_their_place_by_priority(broker, clock):
    late = send(broker, 1, due_at=clock.time() + 5)
    urgent = send(broker, 1, due_at=clock.time() + 9, priority=9)
    usual = send(broker, 1)
    clock.advance(10)

    assert ids(take(broker)) == urgent + late + usual


def test_a_crowd_of_due_messages_is_made_ready_in_steps(broker, clock):
    sent = send(broker, transactions.PROMOTED + 10, due_at=clock.time() + 5)
    clock.advance(10)
    taken = []
    while found := take(broker, 300):
        taken += ids(found)

    assert sorted(taken) == sorted(sent)


def test_due_messages_are_seen_before_anybody_receives(broker, clock):
    send(broker, 1, due_at=clock.time() + 5, priority=1)
    send(broker, 1, due_at=clock.time() + 50)
    send(broker, 1)
    clock.advance(10)
    seen = broker.peek("q")

    stats = broker.stats("q")
    assert (stats.ready, stats.delayed, stats.oldest_age_s) == (2, 1, 10.0)
    assert seen[:2] == [one.message for one in take(broker)]
    assert broker.peek("q") == seen[2:]


# -- claims -----------------------------------------------------------------------------------


def test_late_ack_finds_nothing_though_the_row_number_is_used_again(broker):
    send(broker, 1)
    old = take(broker)
    broker.ack(old)
    sent = send(broker, 1)  # in the same row of the empty table
    new = take(broker)

    assert [one.receipt.partition(":")[0] for one in old + new] == ["1", "1"]
    assert broker.ack(old) == old
    assert ids(broker.ack(new) or new) == sent


def test_same_consumer_on_a_new_handle_never_repeats_a_claim(open_handle, clock):
    receipts = []
    for _ in range(3):
        broker = open_handle(SqliteBroker, clock)
        broker.join("node", "consumer", lease_s=60)
        send(broker, 1)
        receipts += [one.receipt for one in take(broker)]
        broker.nack(take(broker, 1) or broker.held("consumer"))

    assert len(set(receipts)) == len(receipts)


def test_consumer_that_joined_twice_holds_what_it_took_before(broker):
    sent = send(broker, 2)
    broker.join("node", "consumer", lease_s=60)
    first = take(broker, 1)
    broker.join("node", "consumer", lease_s=60)
    second = take(broker, 1)

    assert ids(broker.held("consumer")) == sent
    assert broker.recover_consumer("consumer", struck={first[0].receipt: 0.0}) == 2
    assert [one.strikes for one in take(broker)] == [1, 0]
    assert broker.ack([*first, *second]) == [*first, *second]


def test_ack_of_some_that_are_lost_removes_the_others(broker):
    send(broker, 5)
    taken = take(broker)
    broker.nack(taken[1:3])
    foreign = Delivery(message=taken[0].message, queue="q", receipt="not ours")

    lost = broker.ack([taken[4], foreign, *taken[:4]])
    assert lost == [foreign, *taken[1:3]]
    assert broker.stats("q").held == 0
    assert broker.stats("q").ready == 2


def test_delivery_that_is_acked_twice_at_once_is_lost_the_second_time(broker):
    send(broker, 1)
    [taken] = take(broker)

    assert broker.ack([taken, taken]) == [taken]


def test_batches_are_acked_in_any_order_and_mixture(broker):
    send(broker, 40)
    taken = [*take(broker, 20), *take(broker, 20)]

    assert broker.ack(taken[::-2]) == []
    assert broker.ack(taken[::2]) == []
    assert broker.stats("q").held == 0


def test_follow_ups_are_sent_though_a_delivery_was_lost(broker):
    send(broker, 1)
    [taken] = take(broker)
    broker.nack([taken])
    follow_up = message("next")

    assert broker.settle([taken], [follow_up]) == [taken]
    assert broker.peek("next") == [follow_up]


def test_who_does_not_join_holds_what_it_takes_for_a_minute(open_handle, clock):
    broker, other = open_handle(SqliteBroker, clock), open_handle(SqliteBroker, clock)
    sent = send(broker, 2)
    first = take(broker, 1)
    clock.advance(50)
    second = take(broker, 1)  # renews
    clock.advance(50)

    assert other.recover_expired() == 0
    assert broker.ack(first) == []
    clock.advance(20)
    assert other.recover_expired() == 1
    assert broker.ack(second) == second
    assert ids(take(other)) == sent[1:]


def test_lease_that_ran_out_with_nobody_to_take_over_keeps_all(open_handle, clock):
    broker, other = open_handle(SqliteBroker, clock), open_handle(SqliteBroker, clock)
    sent = send(broker, 3)
    broker.join("node", "consumer", lease_s=10)
    first = take(broker, 1)
    clock.advance(11)
    second = take(broker, 1)
    clock.advance(11)
    assert broker.renew("node", lease_s=10)

    assert ids([*first, *second]) == sent[:2]
    assert other.recover_expired() == 0
    assert broker.ack([*first, *second]) == []


def test_consumer_whose_lease_others_ended_starts_anew(open_handle, clock):
    broker, other = open_handle(SqliteBroker, clock), open_handle(SqliteBroker, clock)
    sent = send(broker, 2)
    broker.join("node", "consumer", lease_s=10)
    before = take(broker, 1)
    clock.advance(11)
    assert other.recover_expired() == 1
    after = take(broker, 1)

    # It takes again what it held, and others keep their hands off it.
    assert ids(after) == sent[:1]
    assert broker.ack(before) == before
    assert other.recover_expired() == 0
    assert broker.ack(after) == []
    assert not broker.renew("node", lease_s=10)
    assert broker.renew("node", lease_s=10)


class Adjustable:
    """A wall clock that can be set, beside a monotonic one that can't."""

    def __init__(self):
        self.wall, self.mono = 1e9, 0.0

    def time(self):
        return self.wall

    def monotonic(self):
        return self.mono

    def advance(self, seconds):
        self.wall += seconds
        self.mono += seconds


def joined(open_handle, clock, node):
    """Return a handle of a node that has looked for dead ones."""
    broker = open_handle(SqliteBroker, clock)
    broker.join(node, node, lease_s=10)
    broker.recover_expired()
    return broker


def test_clock_that_is_set_back_delays_recovery_by_no_more_than_a_lease(open_handle):
    clock = Adjustable()
    dead, other = joined(open_handle, clock, "dead"), joined(open_handle, clock, "other")
    send(dead, 1)
    take(dead, 1)
    clock.wall -= 3600
    assert other.recover_expired() == 0
    clock.advance(10)

    assert other.recover_expired() == 1


def test_clock_that_is_set_forward_costs_no_living_node_its_lease(open_handle):
    clock = Adjustable()
    living, other = joined(open_handle, clock, "living"), joined(open_handle, clock, "other")
    send(living, 1)
    held = take(living, 1)
    clock.wall += 3600
    assert other.recover_expired() == 0
    clock.advance(4)
    assert living.renew("living", lease_s=10)
    clock.advance(7)

    assert other.recover_expired() == 0
    assert living.ack(held) == []


def test_node_that_is_dead_when_the_clock_is_set_forward_is_recovered_a_lease_later(open_handle):
    clock = Adjustable()
    dead, other = joined(open_handle, clock, "dead"), joined(open_handle, clock, "other")
    send(dead, 1)
    take(dead, 1)
    clock.wall += 3600
    assert other.recover_expired() == 0
    clock.advance(10)

    assert other.recover_expired() == 1


def test_renewal_tells_of_a_lease_that_others_ended(open_handle, clock):
    broker, other = open_handle(SqliteBroker, clock), open_handle(SqliteBroker, clock)
    send(broker, 1)
    broker.join("node", "consumer", lease_s=10)
    take(broker)
    clock.advance(11)
    assert other.recover_expired() == 1
    broker.join("node", "other consumer", lease_s=10)

    assert not broker.renew("node", lease_s=10)
    assert broker.renew("node", lease_s=10)


def test_remains_of_ended_nodes_do_not_pile_up(broker, clock, query):
    for n in range(5):
        broker.join(f"node {n}", f"consumer {n}", lease_s=10)
        clock.advance(86_400)
        broker.recover_expired()
    clock.advance(86_400)
    broker.join("last", "last", lease_s=10)
    clock.advance(20)
    broker.recover_expired()

    assert query("SELECT node FROM nodes") == [("last",)]
    assert query("SELECT * FROM consumers") == []


# -- damaged rows -----------------------------------------------------------------------------


def insert(query, **columns):
    """Put a row into the table by hand."""
    row = {"queue": "q", "id": "bad", "headers": b'{"task":"t"}', "body": b"[]", **columns}
    marks = ", ".join("?" * len(row))
    query(f"INSERT INTO messages ({', '.join(row)}) VALUES ({marks})", *row.values())


def test_row_made_by_hand_needs_a_queue_headers_and_a_body(broker, query):
    broker.check()
    query("""INSERT INTO messages (queue, id, headers, body)
             VALUES ('q', 'x', CAST('{"task": "t"}' AS BLOB), CAST('[[], {}]' AS BLOB))""")

    [taken] = take(broker)
    assert (taken.message.id, taken.message.task, taken.token) == ("x", "t", 1)


def test_damaged_message_is_delivered_between_its_neighbours(broker, query):
    before = send(broker, 1)
    insert(query, headers=b'{"task": ')
    after = send(broker, 1)
    taken = take(broker)

    assert [type(one.message) for one in taken] == [Message, Malformed, Message]
    assert (taken[1].message.raw, taken[1].queue) == (b'{"task": ', "q")
    assert [taken[0].message.id, taken[2].message.id] == [*before, *after]


def test_text_that_is_not_utf_8_harms_no_neighbour(broker, query):
    sent = send(broker, 1)
    query("""INSERT INTO messages (queue, id, headers, body)
             VALUES ('q', CAST(x'ff41' AS TEXT), CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT))""")

    taken = take(broker)
    assert taken[0].message.id == sent[0]
    assert isinstance(taken[1].message, Malformed)
    assert broker.ack(taken) == []


@pytest.mark.parametrize("token", ["x", b"x", None, -1, 1.5, 2**62, 1e300])
def test_damaged_token_begins_anew_and_can_be_acked(broker, query, token):
    broker.check()
    insert(query, token=token)

    [taken] = take(broker)
    assert taken.token in (1, 2)
    assert broker.ack([taken]) == []


def test_damaged_priority_does_not_spoil_the_order(broker, query):
    sent = [send(broker, 1, priority=n)[0] for n in (0, 5)]
    for priority in ("high", None, b"\x00", 2.5):
        insert(query, priority=priority)
    taken = take(broker)

    readable = [one.message.id for one in taken if isinstance(one.message, Message)]
    assert readable == sent[::-1]
    assert len(taken) == 6


def test_rows_that_no_consumer_would_see_become_dead_letters(broker, query):
    broker.check()
    strays = [
        {"queue": None},
        {"queue": b"q"},
        {"state": None},
        {"state": "ready"},
        {"state": 7},
        {"state": 1.5},
        {"state": 2, "due_at": None},
        {"state": 2, "due_at": "tomorrow"},
    ]
    for stray in strays:
        insert(query, **stray)
    sent = send(broker, 1)
    broker.recover_expired()

    letters = broker.dead_letters()
    assert len(letters) == len(strays)
    assert {one.reason for one in letters} == {
        "malformed: column queue, state or due_at is damaged"
    }
    assert ids(take(broker)) == sent
    assert query("SELECT count(*) FROM messages") == [(1,)]


@pytest.mark.parametrize(
    "claim", [None, 0, NOBODY, "me", b"\x00", 1.5, NOBODY + (99 << CLAIM_BITS)]
)
def test_row_that_nobody_holds_comes_back(broker, query, claim):
    broker.check()
    insert(query, state=1, claim=claim)

    assert broker.recover_expired() == 1
    assert ids(take(broker)) == ["bad"]


def test_highest_row_number_leaves_room_for_more(broker, query):
    broker.check()
    insert(query, seq=2**63 - 1, id="last")
    sent = send(broker, 3)

    assert sorted(ids(taken := take(broker))) == sorted([*sent, "last"])
    assert broker.ack(taken) == []


def test_damaged_message_keeps_all_its_columns_as_a_dead_letter(broker, query):
    broker.check()
    insert(query, headers=b"{", body="text", extras=b"\x00", priority="high")
    [taken] = take(broker)
    broker.bury([Burial(taken, taken.message.reason)])

    kept = query("SELECT headers, body, extras, priority, reason FROM dead_letters")
    assert kept == [(b"{", "text", b"\x00", "high", "column priority holds str 'high'")]
    assert isinstance(broker.dead_letters("q")[0].message, Malformed)


VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=8)
)
GOOD = {
    "id": st.text("abc", min_size=1),
    "queue": st.just("q"),
    "priority": st.integers(0, 255),
    "state": st.sampled_from([0, 0, 0, 1, 2]),
    "due_at": st.none() | st.floats(0, 1e9),
    "claim": st.just(NOBODY),
    "token": st.integers(0, 5),
    "strikes": st.integers(0, 5),
    "enqueued_at": st.floats(0, 2e9),
    "headers": st.just(b'{"task": "t"}'),
    "extras": st.none() | st.just(b'{"exchange": "x"}'),
    "body": st.binary(max_size=8),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: good | VALUES for name, good in GOOD.items()}), max_size=12
)


@given(rows=ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_garbage_is_delivered_or_a_dead_letter_and_hides_no_good_message(
    rows, broker, clock, query
):
    broker.check()
    query("DELETE FROM messages")
    query("DELETE FROM dead_letters")
    for row in rows:
        insert(query, **row)
    sent = send(broker, 2)
    broker.recover_expired()
    taken = []
    for name in broker.queues():
        broker.peek(name)
        broker.stats(name)
        while found := take(broker, 5, [name]):
            taken += found
            assert broker.ack(found) == []

    good = [one.message.id for one in taken if isinstance(one.message, Message)]
    assert [one for one in good if one in sent] == sent
    later = query(f"SELECT count(*) FROM messages WHERE state = 2 AND due_at > {clock.time()}")[0][
        0
    ]
    assert query("SELECT count(*) FROM messages") == [(later,)]
    dead = broker.dead_letters()
    assert len(taken) + len(dead) + later == len(rows) + len(sent)


# -- waiting and durability -------------------------------------------------------------------


def test_waits_of_several_threads_on_one_handle_are_all_interrupted(broker):
    threads = [
        threading.Thread(
            target=broker.receive, args=(["q"],), kwargs={"max_messages": 1, "wait_s": 60}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in range(1000):
        broker.interrupt()
        threads[0].join(0.01)
        threads[1].join(0.01)
        threads[2].join(0.01)
        if not any(thread.is_alive() for thread in threads):
            break

    assert not any(thread.is_alive() for thread in threads)


def test_interrupt_before_the_wait_ends_it_too(open_handle):
    broker = open_handle(SqliteBroker)
    broker.interrupt()

    assert broker.receive(["q"], max_messages=1, wait_s=60) == []


def test_interrupt_does_not_keep_messages_back(broker):
    sent = send(broker, 1)
    broker.interrupt()

    assert ids(broker.receive(["q"], max_messages=1, wait_s=60)) == sent


def test_threads_share_a_handle_without_taking_anything_twice(open_handle):
    broker = open_handle(SqliteBroker)
    broker.join("node", "consumer", lease_s=60)
    sent = send(broker, 600)
    taken = []

    def work():
        while found := take(broker, 7):
            taken.extend(ids(found))
            assert broker.ack(found) == []

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == sorted(sent)


@pytest.mark.parametrize(
    "parameters, levels",
    [("", [2, 1, 1]), ("?synchronous=full", [2, 2, 2]), ("?synchronous=normal", [1, 1, 1])],
)
def test_what_clients_send_survives_a_power_cut_unless_told_otherwise(
    open_handle, parameters, levels
):
    broker = open_handle(SqliteBroker, parameters=parameters)
    seen = []

    def level():
        # Read without leaving a trace: through the connection itself.
        cx = broker._store._opened()._cx
        return cx.execute("PRAGMA synchronous").fetchone()[0]

    send(broker, 1)
    seen.append(level())
    taken = take(broker)
    seen.append(level())
    broker.settle(taken, [message("q")])
    seen.append(level())

    assert seen == levels


def test_closed_handle_says_so(open_handle):
    broker = open_handle(SqliteBroker)
    broker.close()

    with pytest.raises(BrokerError, match="was closed"):
        send(broker, 1)


def test_close_ends_a_wait(open_handle):
    broker = open_handle(SqliteBroker)
    broker.check()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(broker.receive(["q"], max_messages=1, wait_s=60))
    )
    thread.start()
    while not broker._wakeup._waiting:
        thread.join(0.001)
    broker.close()
    thread.join(30)

    assert found == [[]]


def test_queue_that_was_emptied_is_remembered(broker):
    send(broker, 1, "a")
    broker.ack(take(broker, 1, ["a"]))
    send(broker, 1, "b")

    assert broker.queues() == ["a", "b"]


def test_queues_of_rows_made_by_hand_are_found(broker, query):
    send(broker, 1, "known")
    insert(query, queue="b")
    insert(query, queue="b")
    insert(query, queue="c", state=2, due_at=1.0)
    insert(query, queue="a")

    assert broker.queues() == ["a", "b", "c", "known"]


def test_clock_of_the_handle_decides_what_is_due(open_handle, path):
    clock = FakeClock()
    broker = open_handle(SqliteBroker, clock)
    sent = send(broker, 1, due_at=clock.time() + 3600)
    assert take(broker) == []
    clock.advance("1h")

    assert ids(take(broker)) == sent
