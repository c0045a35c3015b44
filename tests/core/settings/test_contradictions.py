"""Settings that are right for themselves and wrong together."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from umbel.errors import ConfigError
from umbel.settings import Settings

MakeConf = Callable[..., Settings]


@pytest.mark.parametrize(
    "given,message",
    [
        (
            {"task_soft_time_limit": 60, "task_time_limit": 60},
            "task_soft_time_limit is 60 seconds, which must be less than task_time_limit",
        ),
        (
            {"task_serializer": "msgpack"},
            r"task_serializer is 'msgpack', which accept_content \(json\) doesn't have",
        ),
        (
            {"accept_content": ["msgpack"], "task_serializer": "msgpack"},
            r"result_serializer is 'json', which accept_content \(msgpack\) doesn't have",
        ),
        (
            {"accept_content": []},
            r"task_serializer is 'json', which accept_content \(empty\) doesn't have",
        ),
        (
            {"task_store_eager_result": True, "result_backend": "disabled"},
            "task_store_eager_result is on, but there is no result_backend",
        ),
        (
            {
                "task_publish_deadline_s": 1,
                "task_publish_retry_policy": {"interval_start": 5},
            },
            "no retry would ever be made",
        ),
        (
            {"task_create_missing_queues": False, "task_queues": ["a", "b"]},
            "task_default_queue is 'celery', which task_queues doesn't have",
        ),
    ],
)
def test_contradiction_is_an_error(
    given: dict[str, Any], message: str, make_conf: MakeConf
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_conf(**given).finalize()


@pytest.mark.parametrize(
    "given",
    [
        {"task_soft_time_limit": 59, "task_time_limit": 60},
        {"task_soft_time_limit": 60, "task_time_limit": 0},
        {"accept_content": ["application/json"]},
        {"accept_content": ["application/x-own", "json"], "task_serializer": "own"},
        {"result_serializer": "yaml", "accept_content": ["json", "yaml"]},
        {"task_publish_retry": False, "task_publish_retry_policy": {"interval_start": 60}},
        {"task_create_missing_queues": False},
        {"task_create_missing_queues": False, "task_queues": {"celery": {}}},
        {"task_create_missing_queues": False, "task_queues": [{"name": "celery"}]},
        {"task_create_missing_queues": False, "task_queues": [SimpleNamespace(name="celery")]},
    ],
)
def test_settings_that_agree_are_taken(given: dict[str, Any], make_conf: MakeConf) -> None:
    make_conf(**given).finalize()


def test_both_sources_are_named(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_TASK_TIME_LIMIT": "30"}, task_soft_time_limit=60)

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    assert str(caught.value) == (
        "task_soft_time_limit is 60 seconds, which must be less than task_time_limit, 30 seconds "
        "(task_time_limit is from environment variable UMBEL_TASK_TIME_LIMIT) "
        "(from constructor of the app)"
    )


def test_wrong_value_causes_no_second_complaint(make_conf: MakeConf) -> None:
    conf = make_conf(task_soft_time_limit=60, task_time_limit="soon")

    assert [problem.name for problem in conf.problems()] == ["task_time_limit"]
