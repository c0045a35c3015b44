"""Sizes and depths: what is too large or too deep is refused where it is made, and told."""

from __future__ import annotations

import pytest

from umbel.error_info import error_info
from umbel.errors import DecodeError, EncodeError, InvalidTaskError, ResultTooLargeError


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.fixture
def small_app(make_app):
    """An app with low bounds."""
    return make_app(task_message_max_bytes=2048, result_max_bytes=1024, task_message_max_depth=60)


def run(app, task, *args):
    with app.worker(pool="solo"):
        return task.delay(*args).get(timeout=30)


def test_result_that_is_too_large_fails_its_task_and_tells_its_caller(small_app):
    runs = []

    @small_app.task(name="t", autoretry_for=(Exception,))
    def large():
        runs.append(1)
        return "x" * 2000

    with pytest.raises(ResultTooLargeError, match=r"'t' takes 2002 bytes.*\(1024\)"):
        run(small_app, large)
    assert runs == [1]


def test_result_as_large_as_allowed_is_kept(small_app):
    exact = small_app.task(name="t")(lambda: "x" * 1022)

    assert len(run(small_app, exact)) == 1022


def test_large_result_that_nobody_wants_is_no_failure(small_app, make_app):
    done = []
    large = small_app.task(name="t", ignore_result=True)(lambda: "x" * 2000)
    small_app.events.add("task_succeeded", lambda *_: done.append(1))
    marker = small_app.task(name="marker")(lambda: 1)
    with small_app.worker(pool="solo"):
        large.delay()
        marker.delay().get(timeout=30)

    assert done == [1, 1]


def test_result_that_is_too_deep_fails_its_task_and_tells_its_caller(small_app):
    deep = small_app.task(name="t")(lambda: nested(61))

    with pytest.raises(EncodeError, match="deeper than 60 levels"):
        run(small_app, deep)


def test_state_that_is_too_large_is_an_error_inside_the_task(small_app):
    @small_app.task(name="t", bind=True)
    def tells(self):
        try:
            self.update_state(state="PROGRESS", meta="x" * 2000)
        except ResultTooLargeError:
            return "told"

    assert run(small_app, tells) == "told"


def test_arguments_that_are_too_deep_are_not_sent(small_app, waiting):
    task = small_app.task(name="t")(lambda x: x)

    with pytest.raises(EncodeError, match="deeper than 60 levels"):
        task.delay(nested(59))

    assert waiting(small_app) == []
    assert run(small_app, task, nested(58)) == nested(58)


def test_message_that_is_too_deep_is_not_decoded(make_app, small_app):
    body = make_app().serializer("json").dumps(nested(100))
    small_app.finalize()

    with pytest.raises(DecodeError, match="deeper than 60 levels"):
        small_app.serializer("json").loads(body)


def test_depth_of_one_app_is_not_that_of_another(make_app, small_app):
    assert small_app.serializer("json").max_depth == 200  # its settings aren't read yet
    small_app.finalize()

    assert small_app.serializer("json").max_depth == 60
    assert make_app().serializer("json").max_depth == 200


def test_arguments_count_before_they_are_compressed(small_app, waiting):
    task = small_app.task(name="t", compression="gzip")(len)

    with pytest.raises(EncodeError, match=r"over task_message_max_bytes \(2048\)"):
        task.delay("x" * 3000)

    assert waiting(small_app) == []
    assert run(small_app, task, "x" * 1900) == 1900


def test_new_arguments_of_a_retry_may_be_no_larger(small_app):
    @small_app.task(name="t", bind=True, default_retry_delay=0)
    def grows(self, x):
        self.retry(args=["x" * 3000])

    with pytest.raises(EncodeError, match=r"retry\(\) take \d+ bytes"):
        run(small_app, grows, "x")


def test_error_with_huge_arguments_is_cut_and_told(small_app):
    @small_app.task(name="t")
    def fails():
        raise ValueError("x" * 20_000_000, b"y" * 20_000_000, nested(5000))

    with pytest.raises(ValueError, match="characters left out") as caught:
        run(small_app, fails)
    assert sum(len(str(arg)) for arg in caught.value.args) < 1_000_000


def test_error_info_of_a_huge_error_is_small():
    info = error_info(ValueError(["x" * 1_000_000] * 20, {"k": "y" * 20_000_000}))

    assert len(str(info)) < 1_000_000


def test_wrong_depth_is_refused_by_the_settings(make_app):
    with pytest.raises(Exception, match="task_message_max_depth"):
        make_app(task_message_max_depth=5).finalize()


def test_queue_bound_is_an_option_of_the_queue_and_not_of_a_call(make_app):
    with pytest.raises(InvalidTaskError, match="max_length"):
        make_app().send_task("t", max_length=3)
