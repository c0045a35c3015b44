"""Settings out of environment variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umbel.errors import ConfigError
from umbel.settings import Settings

MakeConf = Callable[..., Settings]


@pytest.mark.parametrize(
    "variable,text,name,value",
    [
        ("UMBEL_BROKER_URL", "redis://h/0", "broker_url", "redis://h/0"),
        ("UMBEL_TASK_ACKS_LATE", "no", "task_acks_late", False),
        ("UMBEL_WORKER_CONCURRENCY", "8", "worker_concurrency", 8),
        ("UMBEL_TASK_TIME_LIMIT", "15", "task_time_limit", 15.0),
        ("UMBEL_RESULT_EXPIRES", "2h", "result_expires", 7200.0),
        ("UMBEL_RESULT_EXPIRES", "0", "result_expires", None),
        ("UMBEL_RESULT_EXPIRES", "none", "result_expires", None),
        ("UMBEL_RESULT_BACKEND", "disabled", "result_backend", None),
        ("UMBEL_INCLUDE", "proj.a, proj.b", "include", ("proj.a", "proj.b")),
        ("UMBEL_ACCEPT_CONTENT", '["json", "yaml"]', "accept_content", ("json", "yaml")),
        ("UMBEL_BROKER_TRANSPORT_OPTIONS", '{"a": 1}', "broker_transport_options", {"a": 1}),
        ("UMBEL_TASK_ROUTES", '{"a.*": {"queue": "q"}}', "task_routes", {"a.*": {"queue": "q"}}),
        ("UMBEL_TASK_ROUTES", "proj.route", "task_routes", "proj.route"),
        ("UMBEL_TASK_DEFAULT_DELIVERY_MODE", "transient", "task_default_delivery_mode", 1),
        ("UMBEL_WORKER_POOL", "prefork", "worker_pool", "process"),
    ],
)
def test_variable_is_read_by_the_type_of_its_setting(
    variable: str, text: str, name: str, value: Any, make_conf: MakeConf
) -> None:
    conf = make_conf({variable: text})

    assert conf[name] == value
    assert conf.source_of(name) == f"environment variable {variable}"


def test_empty_variable_counts_as_not_set(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_BROKER_URL": " "})

    assert conf.source_of("broker_url") == "default"


def test_misspelt_variable_is_an_error_with_the_right_name(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_TASK_ACKS_LAT": "1"})

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    assert str(caught.value) == (
        "task_acks_lat is no setting; did you mean UMBEL_TASK_ACKS_LATE? "
        "(from environment variable UMBEL_TASK_ACKS_LAT)"
    )


def test_unlike_variable_is_an_error_too(make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError, match="zzz is no setting of umbel"):
        make_conf({"UMBEL_ZZZ": "1"}).finalize()


@pytest.mark.parametrize(
    "variable",
    [
        "UMBEL_APP",
        "UMBEL_DEBUG",
        "UMBEL_BENCH_EXTRA",
        "UMBEL_",
        "UMBEL_SERVICE_HOST",
        "UMBEL_SERVICE_PORT_HTTP",
        "UMBEL_PORT",
        "UMBEL_WORKER_PORT_6379_TCP_ADDR",
        "CELERY_BROKER_URL",
        "umbel_broker_ulr",
    ],
)
def test_variable_that_is_something_else_is_passed_over(variable: str, make_conf: MakeConf) -> None:
    make_conf({variable: "x"}).finalize()


def test_value_comes_from_a_file_that_a_variable_names(tmp_path: Path, make_conf: MakeConf) -> None:
    secret = tmp_path / "secret"
    secret.write_text("redis://:pw@h/0\n", "utf-8")

    conf = make_conf({"UMBEL_BROKER_URL_FILE": str(secret)})

    assert conf.broker_url == "redis://:pw@h/0"
    assert conf.source_of("broker_url") == (
        f"file {secret} of environment variable UMBEL_BROKER_URL_FILE"
    )


def test_missing_file_is_an_error(tmp_path: Path, make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError, match=r"broker_url can't be read: .*nowhere"):
        make_conf({"UMBEL_BROKER_URL_FILE": str(tmp_path / "nowhere")}).finalize()


def test_value_and_file_at_once_are_an_error(tmp_path: Path, make_conf: MakeConf) -> None:
    secret = tmp_path / "secret"
    secret.write_text("redis://h/0", "utf-8")
    environ = {"UMBEL_BROKER_URL": "redis://h/1", "UMBEL_BROKER_URL_FILE": str(secret)}

    with pytest.raises(ConfigError, match="broker_url is given by environment variable UMBEL_BRO"):
        make_conf(environ).finalize()


def test_wrong_text_is_named_with_what_is_needed(make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError) as caught:
        make_conf({"UMBEL_WORKER_CONCURRENCY": "many"}).finalize()
    assert str(caught.value) == (
        "worker_concurrency needs whole number of tasks or None, not 'many' (str) "
        "(from environment variable UMBEL_WORKER_CONCURRENCY)"
    )


def test_environment_is_read_at_the_first_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    conf = Settings("test", directory=tmp_path)
    monkeypatch.setenv("UMBEL_TASK_DEFAULT_QUEUE", "late")

    assert conf.task_default_queue == "late"
