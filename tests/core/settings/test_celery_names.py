"""Celery's names that aren't settings of umbel: what an error says instead."""

from __future__ import annotations

import pytest

from umbel.settings.celery_names import instead, new_name
from umbel.settings.table import SETTINGS

NAMES = {row.name for row in SETTINGS}


@pytest.mark.parametrize(
    "old,new",
    [
        ("BROKER_URL", "broker_url"),
        ("BROKER_TRANSPORT_OPTIONS", "broker_transport_options"),
        ("CELERY_RESULT_BACKEND", "result_backend"),
        ("CELERY_ACCEPT_CONTENT", "accept_content"),
        ("CELERY_TIMEZONE", "timezone"),
        ("CELERY_IMPORTS", "imports"),
        ("CELERY_ALWAYS_EAGER", "task_always_eager"),
        ("CELERY_EAGER_PROPAGATES_EXCEPTIONS", "task_eager_propagates"),
        ("CELERY_ACKS_LATE", "task_acks_late"),
        ("CELERY_DEFAULT_QUEUE", "task_default_queue"),
        ("CELERY_QUEUES", "task_queues"),
        ("CELERY_ROUTES", "task_routes"),
        ("CELERY_TASK_SERIALIZER", "task_serializer"),
        ("CELERY_TASK_RESULT_EXPIRES", "result_expires"),
        ("CELERY_MESSAGE_COMPRESSION", "task_compression"),
        ("CELERY_REDIRECT_STDOUTS", "worker_redirect_stdouts"),
        ("CELERY_SEND_EVENTS", "worker_send_task_events"),
        ("CELERY_SEND_TASK_SENT_EVENT", "task_send_sent_event"),
        ("CELERYD_CONCURRENCY", "worker_concurrency"),
        ("CELERYD_PREFETCH_MULTIPLIER", "worker_prefetch_multiplier"),
        ("CELERYD_MAX_TASKS_PER_CHILD", "worker_max_tasks_per_child"),
        ("CELERYD_TASK_TIME_LIMIT", "task_time_limit"),
        ("CELERYD_TASK_SOFT_TIME_LIMIT", "task_soft_time_limit"),
        ("CELERYD_POOL_PUTLOCKS", "worker_pool_putlocks"),
        ("CELERYBEAT_SCHEDULE", "beat_schedule"),
        ("CELERY_TASK_TIME_LIMIT", "task_time_limit"),
        ("TASK_ROUTES", "task_routes"),
    ],
)
def test_upper_case_name_is_known_by_its_present_one(old: str, new: str) -> None:
    assert new_name(old, NAMES) == new


@pytest.mark.parametrize("name", ["DEBUG", "REDIS_HOST", "CELERY_FOO", "task_routes", "HTTP_PORT"])
def test_other_names_are_none_of_celery(name: str) -> None:
    assert new_name(name, NAMES) is None


@pytest.mark.parametrize(
    "name",
    [
        "broker_connection_retry",
        "broker_pool_limit",
        "task_remote_tracebacks",
        "worker_redirect_stdouts",
        "worker_state_db",
        "beat_schedule",
        "cassandra_servers",
    ],
)
def test_celery_setting_without_a_place_has_advice(name: str) -> None:
    assert instead(name)


def test_misspelt_setting_is_not_taken_for_celerys() -> None:
    assert instead("task_acks_lat") is None
