"""Rates as people write them, in tasks and settings."""

from __future__ import annotations

import math
from typing import Any

import pytest

from umbel.errors import ConfigError, InvalidTaskError
from umbel.rates import parse_rate, rate_problem


@pytest.mark.parametrize(
    "rate,expected",
    [
        ("10/s", 10.0),
        ("100/m", 100 / 60),
        ("5/h", 5 / 3600),
        ("0.5/s", 0.5),
        (" 3 / M ", 0.05),
        ("7", 7.0),
        (7, 7.0),
        (0.25, 0.25),
        (None, 0.0),
        (0, 0.0),
        ("0", 0.0),
        ("0/m", 0.0),
    ],
)
def test_rate_is_tasks_a_second(rate: Any, expected: float) -> None:
    assert parse_rate(rate) == pytest.approx(expected)


@pytest.mark.parametrize(
    "rate",
    ["", "x", "10/", "10/d", "/s", "-1", -1, "1/s/s", "nan", "inf", math.inf, math.nan, True],
)
def test_what_is_no_rate_is_an_error_that_says_how_to_write_one(rate: Any) -> None:
    with pytest.raises(ConfigError, match="is no rate; write '10/s'"):
        parse_rate(rate)
    assert rate_problem(rate) is not None


def test_task_with_a_wrong_rate_is_refused_where_it_is_defined(app):
    with pytest.raises(InvalidTaskError, match=r"task 't': rate_limit '10 a day' is no rate"):
        app.task(name="t", rate_limit="10 a day")(lambda: None)


def test_class_with_a_wrong_rate_is_refused_where_it_is_registered(app):
    class Slow(app.Task):
        name = "slow"
        rate_limit = "often"

        def run(self) -> None:
            return

    with pytest.raises(InvalidTaskError, match="rate_limit 'often' is no rate"):
        app.register_task(Slow)


def test_annotation_with_a_wrong_rate_is_refused(make_app):
    app = make_app(task_annotations={"*": {"rate_limit": "1/fortnight"}})
    app.task(name="t")(lambda: None)

    with pytest.raises(InvalidTaskError, match="1/fortnight"):
        app.finalize()


def test_setting_with_a_wrong_rate_is_refused(make_app):
    with pytest.raises(ConfigError, match=r"task_default_rate_limit.*must be a rate such as"):
        make_app(task_default_rate_limit="soon").finalize()


@pytest.mark.parametrize("rate,expected", [("5/m", "5/m"), (None, "2/s"), (0, 0), (4, 4)])
def test_rate_of_a_task_goes_before_the_setting(make_app, rate, expected):
    app = make_app(task_default_rate_limit="2/s")
    task = app.task(name="t", rate_limit=rate)(lambda: None)

    assert task.rate_limit == expected


def test_rate_stays_behind_when_a_task_is_sent(app, waiting):
    app.task(name="t", rate_limit="1/m")(lambda: None).delay()

    (message,) = waiting(app)
    assert not any("rate" in name for name in message.headers)
