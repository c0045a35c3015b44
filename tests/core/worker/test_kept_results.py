"""The body of a chord gets a long list of results by reference; what reads it gets the list."""

from __future__ import annotations

import pytest

from umbel import chain, chord, group
from umbel.canvas.options import RESULTS
from umbel.worker.kept_results import LONG_BYTES
from umbel.workflow_store import RESULTS_PREFIX

#: Each member returns this much; with `MEMBERS` of them, the list is long.
TEXT = "x" * 1000
MEMBERS = LONG_BYTES // len(TEXT) + 10
SMALL = 4096


@pytest.fixture
def app(umbel_app):
    @umbel_app.task(name="text")
    def text(i):
        return f"{i}{TEXT}"

    @umbel_app.task(name="sizes")
    def sizes(texts, *more):
        return [len(texts), sum(map(len, texts)), *more]

    @umbel_app.task(name="same")
    def same(value):
        return value

    @umbel_app.task(name="told")
    def told(*values):
        return list(values)

    @umbel_app.task(name="again", bind=True, default_retry_delay=0)
    def again(self, texts, changed=False, **_):
        if self.request.retries == 0:
            raise self.retry(countdown=0, args=[["y"]] if changed else None, kwargs={"n": 1})
        return [len(texts), texts[0][:1]]

    @umbel_app.task(name="fails")
    def fails(texts):
        raise ValueError(len(texts))

    @umbel_app.task(name="errback")
    def errback(request, exc, traceback):
        return [exc.args[0], request.args]

    return umbel_app


@pytest.fixture
def sent(app):
    """The names and sizes of all messages that are made, headers and all."""
    made = []

    def note(task, message):
        made.append((task, len(message.body) + len(repr(message.headers))))

    app.events.add("message_publishing", note)
    return made


def begun(app, body, members=MEMBERS, **options):
    """Send a chord whose list of results is long; return its result."""
    header = [app.tasks["text"].s(i) for i in range(members)]
    return chord(header, body, **options).apply_async()


def expected(members=MEMBERS):
    return [members, sum(len(f"{i}{TEXT}") for i in range(members))]


def test_body_gets_a_long_list_though_its_message_is_small(app, umbel_queue, sent):
    result = begun(app, app.tasks["sizes"].s("more"))
    runs = umbel_queue.drain()

    assert result.get(timeout=10) == [*expected(), "more"]
    assert [size for _, size in sent if size > SMALL] == []
    assert len(runs) == MEMBERS + 1


def test_short_list_travels_in_the_message_of_the_body(app, umbel_queue):
    header = [app.tasks["same"].s(i) for i in range(3)]
    chord(header, app.tasks["told"].s()).apply_async()
    runs = umbel_queue.drain()

    assert [run.args for run in runs if run.name == "told"] == [[[0, 1, 2]]]
    assert app.workflow_store.get(RESULTS_PREFIX + runs[-1].id) is None


def test_each_member_of_a_group_that_is_the_body_gets_the_list(app, umbel_queue, sent):
    result = begun(app, group(app.tasks["sizes"].s(i) for i in range(5)))
    umbel_queue.drain()

    assert result.get(timeout=10) == [[*expected(), i] for i in range(5)]
    assert max(size for task, size in sent if task == "sizes") < SMALL


def test_first_step_of_a_chain_that_is_the_body_gets_the_list(app, umbel_queue, sent):
    result = begun(app, chain(app.tasks["sizes"].s(), app.tasks["same"].s()))
    umbel_queue.drain()

    assert result.get(timeout=10) == expected()
    assert max(size for _, size in sent) < SMALL


def test_header_of_a_chord_that_is_the_body_gets_the_list(app, umbel_queue, sent):
    sizes = app.tasks["sizes"]
    result = begun(app, chord([sizes.s(1), sizes.s(2)], app.tasks["same"].s()))
    umbel_queue.drain()

    assert result.get(timeout=10) == [[*expected(), 1], [*expected(), 2]]
    assert max(size for _, size in sent) < SMALL


def test_immutable_body_has_nothing_kept_for_it(app, umbel_queue):
    result = begun(app, app.tasks["told"].si("own"))
    umbel_queue.drain()

    assert result.get(timeout=10) == ["own"]
    assert app.workflow_store.get(RESULTS_PREFIX + result.id) is None


def test_list_without_the_failed_ones_is_kept_where_the_chord_ignores_them(app, umbel_queue):
    header = [app.tasks["text"].s(i) for i in range(MEMBERS)]
    failing = app.tasks["fails"].s([])
    result = chord([failing, *header], app.tasks["sizes"].s(), on_failure="ignore").apply_async()
    umbel_queue.drain()

    assert result.get(timeout=10) == expected()


@pytest.mark.umbel(canvas_max_inline=None)
def test_long_list_travels_where_all_of_a_workflow_does(app, umbel_queue, sent):
    result = begun(app, app.tasks["sizes"].s())
    umbel_queue.drain()

    assert result.get(timeout=10) == expected()
    assert max(size for task, size in sent if task == "sizes") > LONG_BYTES


def test_retry_of_the_body_gets_the_list_again(app, umbel_queue, sent):
    result = begun(app, app.tasks["again"].s())
    umbel_queue.drain()

    assert result.get(timeout=10) == [MEMBERS, "0"]
    assert max(size for _, size in sent) < SMALL


def test_retry_with_other_arguments_gets_those(app, umbel_queue):
    result = begun(app, app.tasks["again"].s(changed=True))
    umbel_queue.drain()

    assert result.get(timeout=10) == [1, "y"]


def test_errback_of_the_body_is_told_of_its_arguments_but_the_list(app, umbel_queue, sent):
    begun(app, app.tasks["fails"].s().on_error(app.tasks["errback"].s()))
    runs = umbel_queue.drain()

    assert [run.value for run in runs if run.name == "errback"] == [[MEMBERS, [None]]]
    assert max(size for _, size in sent) < 2 * SMALL


# -- what may go wrong --------------------------------------------------------------------------


def test_body_is_given_back_while_its_list_cannot_be_read(
    app, umbel_clock, umbel_queue, umbel_faults
):
    result = begun(app, app.tasks["sizes"].s())
    umbel_faults.coordinator.fail("get", times=1)
    runs = umbel_queue.drain()

    assert [run.state for run in runs if run.name == "sizes"] == []
    umbel_clock.advance(60)
    runs = umbel_queue.drain()
    assert [(run.name, run.state) for run in runs] == [("sizes", "SUCCESS")]
    assert result.get(timeout=10) == expected()


def test_body_fails_clearly_whose_list_is_no_longer_kept(
    app, umbel_clock, umbel_queue, umbel_faults
):
    result = begun(app, app.tasks["sizes"].s() | app.tasks["same"].s())
    umbel_faults.coordinator.fail("get", times=1)
    umbel_queue.drain()
    app.coordinator.delete([f"workflow:{RESULTS_PREFIX}{result.parent.id}"])
    umbel_clock.advance(60)
    umbel_queue.drain()

    with pytest.raises(Exception, match="results of its chord are no longer kept"):
        result.get(timeout=10)


def test_outage_of_the_coordinator_holds_up_the_last_part_and_loses_nothing(
    app, umbel_clock, umbel_queue, umbel_faults
):
    result = begun(app, app.tasks["sizes"].s())
    umbel_faults.coordinator.fail("put", times=3)
    umbel_queue.drain()
    umbel_clock.advance(60)
    umbel_queue.drain()

    assert result.get(timeout=10) == expected()


def test_results_are_kept_for_a_while_only_once_the_body_has_had_them(
    app, umbel_clock, umbel_queue
):
    result = begun(app, app.tasks["sizes"].s())
    umbel_queue.drain()
    key = RESULTS_PREFIX + result.id

    assert len(app.workflow_store.get(key)) == MEMBERS
    umbel_clock.advance(86400 + 1)
    assert app.workflow_store.get(key) is None


def test_header_of_our_own_is_refused_to_senders(app):
    with pytest.raises(Exception, match=RESULTS):
        app.tasks["told"].apply_async(headers={RESULTS: "mine"})
