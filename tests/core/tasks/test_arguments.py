from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import TaskArgumentsError
from umbel.tasks.arguments import ArgumentCheck, Converters


def plain(x, y):
    return x


def with_default(x, y=2, *, z=3):
    return x


def keyword_only(x, *, y):
    return x


def positional_only(x, y, /, z=1):
    return x


def rest(x, *more, **others):
    return x


def nothing():
    return None


FUNCTIONS = [plain, with_default, keyword_only, positional_only, rest, nothing]


def problem(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
    try:
        ArgumentCheck("proj.t", function)(args, kwargs)
    except TaskArgumentsError as exc:
        return str(exc).removeprefix("task 'proj.t' ")
    return None


@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["x", "y", "z", "w"]), st.integers()),
)
def test_check_agrees_with_python(function, args, kwargs):
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        expected = False
    else:
        expected = True

    assert (problem(function, *args, **kwargs) is None) is expected


@pytest.mark.parametrize(
    "function, args, kwargs, text",
    [
        (plain, (1,), {}, "is missing argument 'y'"),
        (plain, (), {}, "is missing arguments 'x', 'y'"),
        (plain, (1, 2, 3), {}, "takes 2 positional arguments (x, y) but 3 were given"),
        (nothing, (1,), {}, "takes 0 positional arguments (none) but 1 were given"),
        (plain, (1,), {"x": 2}, "got more than one value for argument 'x'"),
        (
            with_default,
            (1,),
            {"zz": 2},
            "got an unexpected keyword argument 'zz'; did you mean 'z'?",
        ),
        (keyword_only, (1,), {}, "is missing argument 'y'"),
        (keyword_only, (1, 2), {}, "takes 1 positional argument (x) but 2 were given"),
        (positional_only, (1,), {"y": 2}, "got an unexpected keyword argument 'y'"),
    ],
)
def test_problem_is_told_by_the_arguments_name(function, args, kwargs, text):
    assert problem(function, *args, **kwargs) == text


def test_decorated_function_is_checked_by_its_own_signature():
    @functools.wraps(plain)
    def wrapper(*args, **kwargs):
        return plain(*args, **kwargs)

    assert problem(wrapper, 1) == "is missing argument 'y'"


def test_callable_without_a_signature_takes_anything():
    assert problem(max, 1, 2, 3) is None


# -- converters -------------------------------------------------------------------------------


class Color(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


ID = UUID("12345678-1234-5678-1234-567812345678")


def paint(point: Point, color: Color = Color.RED, *, by: UUID | None = None, times: int = 1) -> int:
    return times


def paint_all(*points: Point, **colors: Color) -> Point:
    return points[0]


def unannotated(x, y=1):
    return x


def builtin_types(x: int, y: list[dict[str, float]], z: str | None = None) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("function", [unannotated, builtin_types, nothing])
def test_function_without_special_types_has_no_converters(function):
    assert Converters.of("t", function) is None


def test_arguments_are_made_plain_on_the_way_out():
    args, kwargs = Converters.of("t", paint).dump((Point(1, 2), Color.RED), {"by": ID})

    assert args == [{"x": 1, "y": 2}, "red"]
    assert kwargs == {"by": ID}


def test_arguments_are_made_what_they_are_annotated_as():
    args, kwargs = Converters.of("t", paint).load(
        [{"x": 1}], {"color": "red", "by": str(ID), "times": 2}
    )

    assert args == [Point(1, 0)]
    assert kwargs == {"color": Color.RED, "by": ID, "times": 2}


def test_rest_and_keywords_are_converted_by_their_annotation():
    args, kwargs = Converters.of("t", paint_all).load([{"x": 1}, {"x": 2}], {"a": "red"})

    assert args == [Point(1), Point(2)]
    assert kwargs == {"a": Color.RED}


def test_wrong_argument_is_named_with_task_and_path():
    with pytest.raises(
        TaskArgumentsError, match=r"argument 'point' of task 't'.*Expected `int`.*\$\.x"
    ):
        Converters.of("t", paint).load([{"x": "one"}], {})


def test_value_that_isnt_of_the_annotated_class_is_sent_as_it_is():
    args, _ = Converters.of("t", paint).dump(({"x": 1},), {})

    assert args == [{"x": 1}]


def test_what_the_caller_passed_isnt_changed():
    given_args, given_kwargs = [Point(1)], {"color": Color.RED}

    Converters.of("t", paint).dump(given_args, given_kwargs)

    assert given_args == [Point(1)]
    assert given_kwargs == {"color": Color.RED}


def test_return_value_has_its_own_converters():
    found = Converters.of("t", paint_all)

    assert found.dump_result(Point(1, 2)) == {"x": 1, "y": 2}
    assert found.load_result({"x": 1, "y": 2}) == Point(1, 2)


def test_return_value_without_special_type_has_none():
    found = Converters.of("t", paint)

    assert found.dump_result is None
    assert found.load_result is None


def test_method_is_converted_without_its_self():
    class Painter:
        def paint(self, point: Point) -> None:
            raise NotImplementedError

    args, _ = Converters.of("t", Painter().paint).load([{"x": 1}], {})

    assert args == [Point(1)]
