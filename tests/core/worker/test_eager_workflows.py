"""`signature.apply()` of workflows: here and now, by the code that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from umbel import Signature, Umbel, chain, chord, group
from umbel.errors import ChordError, UmbelError, UnknownTaskError
from umbel.results import EagerResult


@pytest.fixture
def app() -> Iterator[Umbel]:
    """An app whose broker and backend can't be reached: nothing here may want them."""
    nowhere = "sqlite:////nowhere/umbel.db"
    with Umbel("tests", broker=nowhere, backend=nowhere) as made:
        yield made


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def tasks(app: Umbel, seen: list[Any]) -> SimpleNamespace:
    @app.task(name="add")
    def add(*numbers: int) -> int:
        return sum(numbers)

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="same")
    def same(*values: Any) -> Any:
        return list(values)

    @app.task(name="fail")
    def fail(*values: Any) -> None:
        raise ValueError("bad")

    @app.task(name="note")
    def note(*values: Any) -> Any:
        seen.append(values)
        return values[0] if values else None

    @app.task(name="flaky", bind=True, max_retries=5)
    def flaky(self: Any, value: Any, failures: int) -> Any:
        if self.request.retries < failures:
            raise self.retry(countdown=3600)
        return value

    return SimpleNamespace(add=add, total=total, same=same, fail=fail, note=note, flaky=flaky)


# -- what each kind comes to ----------------------------------------------------------------------


def test_chain_hands_results_on_and_each_step_has_its_own(tasks: SimpleNamespace) -> None:
    result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.si(4)).apply()

    assert isinstance(result, EagerResult)
    assert (result.get(), result.parent.get(), result.parent.parent.get()) == (4, 6, 3)


def test_arguments_go_before_those_of_the_first_step(tasks: SimpleNamespace) -> None:
    result = chain(tasks.same.s(2), tasks.same.s(3)).apply((1,))

    assert result.get() == [[1, 2], 3]


def test_chain_of_a_thousand_needs_no_stack(tasks: SimpleNamespace) -> None:
    result = chain(tasks.add.s(0), *[tasks.add.s(1)] * 999).apply()

    assert result.get() == 999
    assert len(result.as_list()) == 1000


def test_group_has_the_results_of_its_members(tasks: SimpleNamespace) -> None:
    result = group(tasks.add.s(n) for n in range(5)).apply((10,))

    assert result.get() == [10, 11, 12, 13, 14]
    assert [each.get() for each in result.results] == [10, 11, 12, 13, 14]
    assert (result.completed_count(), result.successful()) == (5, True)


def test_chord_hands_all_results_to_its_body(tasks: SimpleNamespace) -> None:
    result = chord([tasks.add.s(n) for n in range(5)], tasks.total.s()).apply()

    assert result.get() == 10
    assert result.parent.get() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "build, expected",
    [
        (lambda t: t.add.map([1, 2]), [1, 2]),
        (lambda t: t.add.starmap([(1, 2), (3, 4)]), [3, 7]),
        (lambda t: t.add.chunks([(1, 2), (3, 4), (5, 6)], 2), [[3, 7], [11]]),
        (lambda t: group([]), []),
        (lambda t: chord([], t.same.s("x")), [[], "x"]),
        (lambda t: chain(t.add.s(1), group(t.add.s(2))), [3]),
        (lambda t: t.add.s(1) | group(t.add.s(1), t.add.s(2)) | t.total.s() | t.add.s(10), 15),
        (
            lambda t: chain(
                t.add.s(1), chord([t.add.s(2), chain(t.add.s(3), group(t.add.s(4)))], t.same.s())
            ),
            [[3, [8]]],
        ),
        (
            lambda t: chord([t.add.s(1), t.add.s(2)], group(t.same.s("a"), t.same.s("b"))),
            [[[1, 2], "a"], [[1, 2], "b"]],
        ),
        (lambda t: chord([t.flaky.s(1, 2), t.add.s(2)], t.same.s()), [[1, 2]]),
    ],
)  # fmt: skip
def test_workflow_comes_to_what_a_worker_makes_of_it(
    tasks: SimpleNamespace, build: Any, expected: Any
) -> None:
    assert build(tasks).apply().get() == expected


def test_async_tasks_are_steps_too(app: Umbel, tasks: SimpleNamespace) -> None:
    @app.task(name="double")
    async def double(x: int) -> int:
        return 2 * x

    assert chord([double.s(1), tasks.add.s(1)], tasks.total.s() | double.s()).apply().get() == 6


def test_large_results_come_to_the_body(tasks: SimpleNamespace) -> None:
    large = ["x" * 50_000] * 2
    result = chord([tasks.note.s(each) for each in large], tasks.same.s() | tasks.same.s()).apply()

    assert result.get() == [[large]]


def test_part_is_added_to_a_chord_that_runs(app: Umbel, tasks: SimpleNamespace) -> None:
    @app.task(name="grows", bind=True)
    def grows(self: Any, x: int) -> int:
        self.add_to_chord(tasks.add.s(x, 10))
        return x

    assert sorted(chord([grows.s(1), tasks.add.s(2)], tasks.same.s()).apply().get()[0]) == [
        1,
        2,
        11,
    ]


def test_what_replaces_a_task_has_its_result_and_place(
    app: Umbel, tasks: SimpleNamespace, seen: list[Any]
) -> None:
    @app.task(name="steps", bind=True)
    def steps(self: Any, x: int) -> Any:
        return self.replace(chain(tasks.add.s(x, 1), tasks.add.s(1)))

    @app.task(name="both", bind=True)
    def both(self: Any, x: int) -> Any:
        return self.replace(group(tasks.add.s(x, 1), tasks.add.s(x, 2)))

    assert (steps.s(1).link(tasks.note.s()) | tasks.add.s(10)).apply().get() == 13
    assert seen == [(3,)]
    assert chord([both.s(1), steps.s(1)], tasks.same.s()).apply().get() == [[[2, 3], 3]]


def test_callbacks_run_and_are_its_children(tasks: SimpleNamespace, seen: list[Any]) -> None:
    result = tasks.add.s(1, 2).link(tasks.note.s("linked")).apply()

    assert seen == [(3, "linked")]
    assert [each.get() for each in result.children] == [3]
    assert [value for _, value in result.collect()] == [3, 3]


def test_context_of_a_step_is_that_of_a_worker(app: Umbel, tasks: SimpleNamespace) -> None:
    @app.task(name="context", bind=True)
    def context(self: Any, *_: Any) -> list[Any]:
        request = self.request
        return [request.is_eager, request.root_id, request.parent_id]

    result = chain(tasks.add.s(1), context.s()).apply()

    first = result.parent.id
    assert result.get() == [True, first, first]


# -- children -------------------------------------------------------------------------------------


@pytest.fixture
def sends(app: Umbel, tasks: SimpleNamespace) -> Any:
    """A task that sends others, and itself again as often as it is told."""
    app.conf.task_always_eager = True

    @app.task(name="sends")
    def sends(again: int) -> str:
        tasks.add.delay(1)
        (tasks.add.s(2) | tasks.add.s(3)).delay()
        group(tasks.add.s(4), tasks.add.s(5)).delay()
        if again:
            sends.delay(again - 1)
        return "sent"

    return sends


def test_what_a_task_sends_meanwhile_is_its_children(sends: Any) -> None:
    result = sends.delay(0)

    assert [each.get() for each in result.children] == [1, 2, [4, 5]]
    assert all(isinstance(each, EagerResult) for each in result.children[2].results)


def test_all_that_descends_from_an_eager_result_is_walked(sends: Any) -> None:
    result = sends.delay(1)

    values = [value for _, value in result.collect()]
    assert values == ["sent", 1, 2, [4, 5], "sent", 5, 4, 5, 1, 2, [4, 5], 5, 4, 5]
    assert len(list(result.iterdeps())) == len(values)
    assert result.get_leaf() == 5
    assert result.graph.to_dot().count("->") == len(values) - 1


def test_children_of_a_step_are_found(sends: Any, tasks: SimpleNamespace) -> None:
    result = chain(sends.s(0), tasks.add.si(7)).delay()

    assert [each.get() for each in result.parent.children] == [1, 2, [4, 5], 7]


def test_async_task_has_children_too(app: Umbel, tasks: SimpleNamespace) -> None:
    app.conf.task_always_eager = True

    @app.task(name="sends")
    async def sends() -> None:
        await tasks.add.adelay(1)

    assert [each.get() for each in sends.delay().children] == [1]


def test_child_that_fails_is_one_even_where_its_error_is_raised(
    app: Umbel, tasks: SimpleNamespace
) -> None:
    app.conf.update(task_always_eager=True, task_eager_propagates=True)

    @app.task(name="sends")
    def sends() -> str:
        with pytest.raises(ValueError, match="bad"):
            tasks.fail.delay()
        return "sent"

    assert [each.state for each in sends.delay().children] == ["FAILURE"]


def test_what_is_only_run_or_said_to_be_none_is_no_child(
    app: Umbel, tasks: SimpleNamespace
) -> None:
    app.conf.task_always_eager = True

    @app.task(name="runs")
    def runs() -> None:
        tasks.add.apply((1,))
        tasks.add.apply_async((2,), add_to_parent=False)
        group(tasks.add.s(3)).apply_async(add_to_parent=False)

    @app.task(name="no trail", trail=False)
    def no_trail() -> None:
        tasks.add.delay(1)

    assert [not each.delay().children for each in (runs, no_trail)] == [True, True]


def test_task_of_a_worker_has_no_children_that_ran_in_it() -> None:
    """Their results are stored nowhere: who waits for them would wait for ever."""
    with Umbel("tests", broker="memory://", backend="memory://") as app:

        @app.task(name="sends")
        def sends() -> None:
            app.conf.task_always_eager = True
            app.send_task("one")

        @app.task(name="one")
        def one() -> int:
            return 1

        with app.worker():
            result = sends.delay()
            assert result.get(timeout=30) is None
        assert not result.children


# -- failures -------------------------------------------------------------------------------------


def test_failure_is_that_of_all_later_steps(tasks: SimpleNamespace) -> None:
    result = chain(tasks.add.s(1), tasks.fail.s(), tasks.add.s(1), tasks.add.s(1)).apply()

    assert [result.state, result.parent.state, result.parent.parent.state] == ["FAILURE"] * 3
    assert result.parent.parent.parent.get() == 1
    with pytest.raises(ValueError, match="bad") as raised:
        result.get()
    assert raised.value is result.parent.parent.result


def test_group_raises_the_error_of_its_member_and_runs_the_others(
    tasks: SimpleNamespace, seen: list[Any]
) -> None:
    with pytest.raises(ValueError, match="bad"):
        group(tasks.fail.s(), tasks.note.s(1)).apply(throw=True)

    assert seen == [(1,)]


def test_chord_fails_with_an_error_that_names_the_part(
    tasks: SimpleNamespace, seen: list[Any]
) -> None:
    fails = tasks.fail.s()
    result = chord([tasks.add.s(1), fails], tasks.total.s().on_error(tasks.note.s())).apply()

    assert isinstance(result.result, ChordError)
    failed = result.parent.results[1].id
    assert str(result.result) == f"Dependency {failed} raised ValueError('bad')"
    assert seen == [(result.id,)]


@pytest.mark.parametrize("policy, expected", [("ignore", [[1]]), ("collect", None)])
def test_policy_of_a_chord_holds(tasks: SimpleNamespace, policy: str, expected: Any) -> None:
    members = [tasks.add.s(1), tasks.fail.s()]
    value = chord(members, tasks.same.s(), on_failure=policy).apply().get()

    assert value == expected or value[0][1]["exc_type"] == "ValueError"


def test_errback_of_a_chain_hears_of_the_step_that_failed(
    tasks: SimpleNamespace, seen: list[Any]
) -> None:
    result = chain(tasks.fail.s(), tasks.add.s(1)).on_error(tasks.note.s()).apply()

    assert seen == [(result.parent.id,)]


def test_unknown_task_is_an_error_at_once(app: Umbel, tasks: SimpleNamespace) -> None:
    with pytest.raises(UnknownTaskError, match="gone"):
        chain(tasks.add.s(1), Signature("gone")).apply()


def test_chord_without_a_body_is_refused(tasks: SimpleNamespace) -> None:
    with pytest.raises(UmbelError, match="body"):
        chord([tasks.add.s(1)]).apply()


# -- settings -------------------------------------------------------------------------------------


def test_all_that_is_sent_runs_here_under_task_always_eager(
    app: Umbel, tasks: SimpleNamespace
) -> None:
    app.conf.task_always_eager = True

    @app.task(name="sends")
    def sends() -> int:
        return (tasks.add.s(1) | tasks.add.s(2)).delay().get()

    assert (tasks.add.s(1) | tasks.add.s(2)).delay().get() == 3
    assert ~chord([tasks.add.s(1)], tasks.total.s()) == 1
    assert group(tasks.add.s(1), sends.s())().get() == [1, 3]


def test_errors_are_raised_where_the_settings_say_so(app: Umbel, tasks: SimpleNamespace) -> None:
    app.conf.task_eager_propagates = True

    with pytest.raises(ValueError, match="bad"):
        chain(tasks.fail.s(), tasks.add.s(1)).apply()
    assert chain(tasks.fail.s(), tasks.add.s(1)).apply(throw=False).state == "FAILURE"


def test_results_are_stored_where_the_settings_say_so() -> None:
    with Umbel(
        "tests", broker="memory://", backend="memory://", task_store_eager_result=True
    ) as app:

        @app.task(name="fails")
        def fails(x: int) -> None:
            raise ValueError(x)

        @app.task(name="one")
        def one() -> int:
            return 1

        result = chain(one.s(), fails.s(), fails.s()).apply()

        stored = [app.AsyncResult(task_id).state for task_id in result.as_list()]
        assert stored == ["FAILURE", "FAILURE", "SUCCESS"]
