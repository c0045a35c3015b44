"""Workflows of any size: no message grows with them, and what is done for each part stays the same."""

from __future__ import annotations

import pytest

from umbel import chain, chord, group


@pytest.fixture
def app(umbel_app):
    @umbel_app.task(name="add")
    def add(x, y=1):
        return x + y

    @umbel_app.task(name="total")
    def total(numbers):
        return sum(numbers)

    @umbel_app.task(name="pair")
    def pair(*_):
        return 1

    return umbel_app


@pytest.fixture
def add(app):
    return app.tasks["add"]


@pytest.fixture
def total(app):
    return app.tasks["total"]


@pytest.fixture
def sizes(app):
    """The bytes of all messages that are made, headers and all."""
    made = []

    def note(task, message):
        made.append(len(message.body) + len(repr(message.headers)))

    app.events.add("message_publishing", note)
    return made


@pytest.fixture
def measured(sizes, umbel_queue):
    """Carry out a workflow; return its value, and the bytes of its messages."""

    def measure(signature):
        sizes.clear()
        result = signature.apply_async()
        umbel_queue.drain()
        return result.get(timeout=30), list(sizes)

    return measure


def calls_of(monkeypatch, handle, *steps):
    """Return a list that fills with the length of what `steps` of `handle` are called with."""
    made = []

    def noting(step):
        def call(given, *args, **kwargs):
            made.append(len(given))
            return step(given, *args, **kwargs)

        return call

    for name in steps:
        monkeypatch.setattr(handle, name, noting(getattr(handle, name)))
    return made


def test_bytes_of_a_chain_grow_as_its_length_does(add, measured):
    def long(steps):
        return chain(add.s(0, 1), *[add.s(1)] * (steps - 1))

    value, short = measured(long(150))
    assert value == 150
    value, twice = measured(long(300))
    assert value == 300
    value, four_times = measured(long(600))
    assert value == 600
    assert sum(twice) < 2.2 * sum(short)
    assert sum(four_times) < 2.2 * sum(twice)
    assert max(four_times) < 1.1 * max(short)


def test_members_of_a_chord_are_as_small_however_many_there_are(add, total, measured):
    value, few = measured(chord([add.s(i) for i in range(10)], total.s()))
    assert value == sum(range(10)) + 10
    value, many = measured(chord([add.s(i) for i in range(500)], total.s()))
    assert value == sum(range(500)) + 500
    assert max(many[:500]) < 1.1 * max(few[:10])


def test_members_of_a_group_are_as_small_however_many_there_are(add, measured):
    value, few = measured(group(add.s(i) for i in range(10)))
    assert value == list(range(1, 11))
    value, many = measured(group(add.s(i) for i in range(500)))
    assert value == list(range(1, 501))
    assert max(many) < 1.1 * max(few)


def test_chain_of_groups_is_carried_out_in_small_messages(app, add, total, measured):
    steps = [group(app.tasks["pair"].s(), app.tasks["pair"].s()), total.s()]

    value, sent = measured(chain(add.s(1), *steps * 50))

    assert value == 2
    assert len(sent) == 1 + 50 * 3
    assert max(sent) < 20_000


def test_chords_within_chords_are_carried_out_in_small_messages(add, total, measured):
    def nested(depth):
        if depth == 0:
            return add.s(0, 1)
        return chord([nested(depth - 1), add.s(0, 1)], total.s())

    value, sent = measured(nested(40))

    assert value == 41
    assert max(sent) < 20_000


def test_group_that_is_the_body_of_a_chord_does_not_travel_with_its_members(add, total, measured):
    body = group(total.s() for _ in range(500))

    value, sent = measured(chord([add.s(i) for i in range(10)], body))

    assert value == [55] * 500
    assert len(sent) == 510
    assert max(sent) < 2_000


def test_groups_within_groups_are_carried_out_in_small_messages(add, total, measured):
    wide = group(chord([add.s(i) for i in range(20)], total.s()) for _ in range(20))

    value, sent = measured(wide)

    assert value == [sum(range(20)) + 20] * 20
    assert max(sent) < 2_500


def test_large_group_is_published_in_batches(app, add, monkeypatch):
    batches = calls_of(monkeypatch, app.broker, "send")

    group(add.s(i) for i in range(2500)).apply_async()

    assert sum(batches) == 2500
    assert len(batches) <= 10
    assert max(batches) <= 1000


def test_results_of_a_large_group_are_read_in_batches(app, add, umbel_queue, monkeypatch):
    result = group(add.s(i) for i in range(2500)).apply_async()
    umbel_queue.drain()
    calls = calls_of(monkeypatch, app.backend, "load", "wait")

    assert result.get(timeout=30) == list(range(1, 2501))
    assert len(calls) <= 10


def test_chord_of_ten_thousand_gets_all_results(app, add, total, umbel_worker):
    result = chord([add.s(i) for i in range(10_000)], total.s()).apply_async()

    assert result.get(timeout=120) == sum(range(10_000)) + 10_000
