"""`app.conf`: layers, laziness, checks, showing."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from umbel.errors import ConfigError, PluginClashError
from umbel.redaction import MASK
from umbel.settings import Setting, Settings

MakeConf = Callable[..., Settings]


def row(name: str, **fields: Any) -> Setting:
    return Setting(**{"name": name, "type": int, "default": 1, "help": "Help.", **fields})


# -- layers -----------------------------------------------------------------------------------


def test_sources_win_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "umbel.toml").write_text('task_default_queue = "toml"\n', "utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.umbel]\ntask_default_queue = "project"\n', "utf-8"
    )
    environ: dict[str, str] = {}
    conf = Settings("test", environ=environ, directory=tmp_path)
    seen = [(conf.task_default_queue, conf.source_of("task_default_queue"))]

    environ["UMBEL_TASK_DEFAULT_QUEUE"] = "environment"
    conf = Settings("test", environ=environ, directory=tmp_path)
    seen.append((conf.task_default_queue, conf.source_of("task_default_queue")))
    conf.config_from_object({"task_default_queue": "object"})
    seen.append((conf.task_default_queue, conf.source_of("task_default_queue")))
    conf = Settings(
        "test", environ=environ, directory=tmp_path, given={"task_default_queue": "constructor"}
    )
    conf.config_from_object({"task_default_queue": "object"})
    seen.append((conf.task_default_queue, conf.source_of("task_default_queue")))
    conf.update(task_default_queue="update")
    seen.append((conf.task_default_queue, conf.source_of("task_default_queue")))

    assert seen == [
        ("toml", str(tmp_path / "umbel.toml")),
        ("environment", "environment variable UMBEL_TASK_DEFAULT_QUEUE"),
        ("object", "a mapping given to config_from_object"),
        ("constructor", "constructor of the app"),
        ("update", "conf.update()"),
    ]


def test_wrong_value_is_an_error_also_where_another_source_wins(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_WORKER_CONCURRENCY": "many"}, worker_concurrency=2)

    with pytest.raises(ConfigError, match="UMBEL_WORKER_CONCURRENCY"):
        conf.finalize()


@pytest.mark.parametrize(
    "broker,backend",
    [
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("memory://", "memory://"),
        ("redis://h/0", None),
        ("sqlite-like://h", None),
    ],
)
def test_result_backend_follows_an_embedded_broker(
    broker: str, backend: str | None, make_conf: MakeConf
) -> None:
    conf = make_conf(broker_url=broker)

    assert conf.result_backend == backend
    assert conf.source_of("result_backend") == "default"


def test_result_backend_that_is_given_stays(make_conf: MakeConf) -> None:
    conf = make_conf(broker_url="memory://", result_backend="redis://h/1")

    assert conf.result_backend == "redis://h/1"


def test_no_result_backend_can_be_asked_for(make_conf: MakeConf) -> None:
    assert make_conf(result_backend=None).result_backend is None


# -- laziness ---------------------------------------------------------------------------------


def test_nothing_is_read_before_the_first_look(tmp_path: Path) -> None:
    asked: list[str] = []

    def plugin_settings() -> list[tuple[str, list[Setting]]]:
        asked.append("plugins")
        return []

    conf = Settings(
        "test",
        given={"task_rutes": {}},
        environ={},
        directory=tmp_path,
        plugin_settings=plugin_settings,
    )
    conf.update(worker_concurrency=0)
    conf.config_from_object("no_such_module")

    assert not conf.finalized
    assert repr(conf) == "<Settings of app 'test', not read yet>"
    assert asked == []


def test_import_loads_neither_readers_nor_parsers() -> None:
    code = (
        "import sys, umbel.settings\n"
        "conf = umbel.settings.Settings('x', given={'task_acks_late': False})\n"
        "heavy = {'tomllib', 'difflib', 'zoneinfo', 'umbel.settings.table', "
        "'umbel.settings.reading'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "conf.task_acks_late\n"
        "print(sorted({'difflib', 'zoneinfo'} & set(sys.modules)))\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.split("\n") == ["[]", "[]", ""]


def test_threads_that_look_first_at_once_read_once(tmp_path: Path) -> None:
    asked: list[int] = []
    start = threading.Barrier(8)

    def plugin_settings() -> list[tuple[str, list[Setting]]]:
        asked.append(1)
        return [("demo", [row("demo_size")])]

    conf = Settings("test", environ={}, directory=tmp_path, plugin_settings=plugin_settings)
    seen: list[Any] = []

    def look() -> None:
        start.wait(10)
        seen.append((conf.task_default_queue, conf["demo_size"]))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert seen == [("celery", 1)] * 8
    assert asked == [1]


# -- giving values ----------------------------------------------------------------------------


def test_update_before_the_first_look_is_checked_then(conf: Settings) -> None:
    conf.update({"task_rutes": {}}, worker_concurrency=0)

    with pytest.raises(ConfigError, match="2 settings are wrong"):
        conf.finalize()


def test_update_after_the_first_look_is_checked_at_once(conf: Settings) -> None:
    conf.finalize()

    with pytest.raises(ConfigError, match=r"did you mean task_default_queue\?"):
        conf.update(task_default_queu="q")


def test_update_with_a_mistake_changes_nothing(conf: Settings) -> None:
    conf.finalize()

    with pytest.raises(ConfigError):
        conf.update(task_default_queue="q", worker_concurrency=0)

    assert conf.task_default_queue == "celery"
    conf.update(task_acks_late=False)
    assert conf.task_default_queue == "celery"


@pytest.mark.parametrize("finalized", [True, False])
def test_attribute_and_item_can_be_set(finalized: bool, conf: Settings) -> None:
    if finalized:
        conf.finalize()

    conf.task_always_eager = True
    conf["task_default_queue"] = "q"

    assert conf.task_always_eager is True
    assert conf.task_default_queue == "q"
    assert conf.source_of("task_always_eager") == "conf.update()"


def test_updated_value_is_converted(conf: Settings) -> None:
    conf.finalize()

    conf.update(task_time_limit="2m")

    assert conf.task_time_limit == 120.0


def test_monkeypatch_undoes_itself(conf: Settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conf, "task_always_eager", True)
        patch.setitem(conf, "task_default_queue", "q")
        assert (conf.task_always_eager, conf.task_default_queue) == (True, "q")

    assert (conf.task_always_eager, conf.task_default_queue) == (False, "celery")


# -- telling ----------------------------------------------------------------------------------


@pytest.fixture
def told() -> list[str]:
    """What was called, in order."""
    return []


@pytest.fixture
def telling(told: list[str], tmp_path: Path) -> Settings:
    """Settings that tell `told`."""
    return Settings(
        "test",
        environ={},
        directory=tmp_path,
        before_read=lambda: told.append("before"),
        after_read=lambda: told.append("after"),
        on_update=lambda: told.append("update"),
    )


def test_first_reading_is_told_before_and_after(telling: Settings, told: list[str]) -> None:
    telling.update(task_acks_late=False)
    assert told == []

    telling.finalize()
    telling.finalize()

    assert told == ["before", "after"]


def test_what_is_given_before_the_reading_is_read(tmp_path: Path) -> None:
    conf = Settings(
        "test",
        environ={},
        directory=tmp_path,
        before_read=lambda: conf.update(task_default_queue="late"),
    )

    assert conf.task_default_queue == "late"


def test_value_can_be_looked_at_before_the_reading(told: list[str], tmp_path: Path) -> None:
    conf = Settings(
        "test",
        environ={},
        directory=tmp_path,
        before_read=lambda: told.append(conf.task_default_queue),
        after_read=lambda: told.append("after"),
        on_update=lambda: told.append("update"),
    )

    conf.finalize()

    assert told == ["celery", "after"]


def test_reading_that_failed_is_told_again(told: list[str], tmp_path: Path) -> None:
    conf = Settings(
        "test",
        given={"worker_concurrency": 0},
        environ={},
        directory=tmp_path,
        before_read=lambda: told.append("before"),
        after_read=lambda: told.append("after"),
    )

    for _ in range(2):
        with pytest.raises(ConfigError):
            conf.finalize()

    assert told == ["before", "before"]
    assert not conf.finalized


def test_update_of_values_that_were_read_is_told(telling: Settings, told: list[str]) -> None:
    telling.finalize()
    told.clear()

    telling.update(task_acks_late=False)

    assert told == ["update"]


def test_listener_to_updates_sees_the_new_value(tmp_path: Path) -> None:
    seen: list[str] = []
    conf = Settings(
        "test",
        environ={},
        directory=tmp_path,
        on_update=lambda: seen.append(conf.task_default_queue),
    )
    conf.finalize()

    conf.update(task_default_queue="q")

    assert seen == ["q"]


def test_update_with_a_mistake_is_not_told(telling: Settings, told: list[str]) -> None:
    telling.finalize()
    told.clear()

    with pytest.raises(ConfigError):
        telling.update(worker_concurrency=0)

    assert told == []


def test_object_given_after_the_reading_is_told_when_it_is_read(
    telling: Settings, told: list[str]
) -> None:
    telling.finalize()
    told.clear()

    telling.config_from_object({"task_default_queue": "q"})
    assert told == []

    assert telling.task_default_queue == "q"
    assert told == ["update"]


# -- reading values ---------------------------------------------------------------------------


def test_settings_are_a_mapping(conf: Settings) -> None:
    assert isinstance(conf, Mapping)
    assert conf["task_default_queue"] == conf.task_default_queue == "celery"
    assert "task_default_queue" in conf
    assert "task_default_queu" not in conf
    assert conf.get("task_default_queue") == "celery"
    assert conf.get("nothing", 5) == 5
    assert len(conf) == len(list(conf)) == len(dict(conf))


def test_unknown_attribute_is_an_error_with_the_right_name(conf: Settings) -> None:
    with pytest.raises(AttributeError, match="did you mean 'task_default_queue'"):
        _ = conf.task_default_queu  # type: ignore[attr-defined]


def test_unknown_item_is_an_error_with_the_right_name(conf: Settings) -> None:
    with pytest.raises(KeyError, match="did you mean 'task_default_queue'"):
        conf["task_default_queu"]


@pytest.mark.parametrize("ask", [Settings.source_of, Settings.setting, Settings.owner_of])
def test_unknown_name_has_no_source(ask: Callable[..., Any], conf: Settings) -> None:
    with pytest.raises(KeyError, match="there is no setting 'nothing'"):
        ask(conf, "nothing")


def test_read_attributes_are_plain(conf: Settings) -> None:
    conf.finalize()

    assert vars(conf)["task_default_queue"] == "celery"


def test_settings_are_compared_by_identity(make_conf: MakeConf) -> None:
    first, second = make_conf(), make_conf()

    assert first == first  # noqa: PLR0124
    assert first != second
    assert len({first, second}) == 2


def test_half_made_copy_raises_and_does_not_recurse(conf: Settings) -> None:
    with pytest.raises(TypeError, match="pickle"):
        copy.deepcopy(conf)


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("worker_concurrency", 0, "worker_concurrency must be at least 1, not 0"),
        ("task_default_priority", 256, "task_default_priority must be at most 255, not 256"),
        ("task_protocol", 1, "task_protocol must be one of 2, not 1"),
        ("enable_utc", False, "enable_utc must be one of True, not False"),
        ("task_time_limit", -1, "task_time_limit must be at least 0.001, not -1.0"),
        ("task_acks_late", "no", "task_acks_late needs true or false, not 'no' (str)"),
        ("broker_url", "localhost", "broker_url needs URL, not 'localhost' (str) (write it like"),
        ("include", "proj.tasks", "include needs list of text, not 'proj.tasks' (str)"),
        (
            "task_publish_retry_policy",
            {"max_retry": 3},
            "may not have the key 'max_retry': its keys are max_retries, interval_start",
        ),
        (
            "task_publish_retry_policy",
            {"interval_step": "1"},
            "must have a number of 0 or more as 'interval_step'",
        ),
        ("task_default_delivery_mode", 3, "must be one of 1, 2, not 3"),
    ],
)
def test_wrong_value_is_an_error(name: str, value: Any, message: str, make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError) as caught:
        make_conf(**{name: value}).finalize()
    assert message in str(caught.value)
    assert "(from constructor of the app)" in str(caught.value)


@pytest.mark.parametrize(
    "name,value",
    [
        ("timezone", "UTC"),
        ("task_default_delivery_mode", "transient"),
        ("task_publish_retry_policy", {"max_retries": None}),
        ("task_publish_retry_policy", {"retry_errors": (OSError,)}),
        ("result_expires", 0),
        ("broker_connection_max_retries", 0),
    ],
)
def test_right_value_is_taken(name: str, value: Any, make_conf: MakeConf) -> None:
    make_conf(**{name: value}).finalize()


def test_zero_is_no_limit_where_celery_says_so(make_conf: MakeConf) -> None:
    conf = make_conf(result_expires=0, task_time_limit=0.0, worker_max_tasks_per_child=0)

    assert (conf.result_expires, conf.task_time_limit, conf.worker_max_tasks_per_child) == (
        None,
        None,
        None,
    )


def test_all_mistakes_are_told_at_once(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_TASK_ACKS_LAT": "1"}, worker_concurrency=0)
    conf.config_from_object({"BROKER_URL": "redis://h/0"})

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    lines = str(caught.value).split("\n")
    assert lines[0] == "3 settings are wrong:"
    assert [line.split()[0] for line in lines[1:]] == [
        "worker_concurrency",
        "BROKER_URL",
        "task_acks_lat",
    ]
    assert [problem.name for problem in conf.problems()] == [line.split()[0] for line in lines[1:]]


def test_mistake_is_told_again_at_the_next_look(make_conf: MakeConf) -> None:
    conf = make_conf(worker_concurrency=0)

    for _ in range(2):
        with pytest.raises(ConfigError, match="at least 1"):
            _ = conf.task_default_queue


def test_mended_mistake_is_forgotten(make_conf: MakeConf) -> None:
    conf = make_conf(worker_concurrency=0)
    assert conf.problems()

    conf = make_conf(worker_concurrency=1)

    assert conf.problems() == ()
    assert conf.worker_concurrency == 1


# -- plugins ----------------------------------------------------------------------------------


def test_plugin_adds_settings(make_conf: MakeConf) -> None:
    conf = make_conf({"UMBEL_DEMO_SIZE": "5"})
    conf.add_settings(
        [row("demo_size", minimum=2), row("demo_name", type=str, default="x")], owner="demo"
    )

    assert conf["demo_size"] == 5
    assert conf["demo_name"] == "x"
    assert conf.owner_of("demo_size") == "demo"
    assert conf.owner_of("task_routes") == "umbel"
    assert conf.setting("demo_size").group == "demo"


def test_settings_of_plugins_are_asked_for_at_the_first_look(tmp_path: Path) -> None:
    conf = Settings(
        "test",
        given={"demo_size": 7},
        environ={},
        directory=tmp_path,
        plugin_settings=lambda: [("demo", [row("demo_size")])],
    )

    assert conf["demo_size"] == 7


def test_same_rows_again_change_nothing(conf: Settings) -> None:
    conf.add_settings([row("demo_size")], owner="demo")
    conf.add_settings([row("demo_size")], owner="demo")

    assert conf["demo_size"] == 1


@pytest.mark.parametrize("name,other", [("demo_size", "demo"), ("task_routes", "umbel")])
def test_two_owners_of_one_name_are_an_error_that_names_both(
    name: str, other: str, conf: Settings
) -> None:
    conf.add_settings([row("demo_size")], owner="demo")

    with pytest.raises(PluginClashError, match=f"'{name}' is offered by .*: {other}, second"):
        conf.add_settings([row(name)], owner="second")


@pytest.mark.parametrize(
    "wrong,message",
    [
        (row("Demo"), "lower-case identifier"),
        (row("demo-size"), "lower-case identifier"),
        (row("_demo"), "lower-case identifier"),
        (row("update"), "has a method of this name"),
        (row("demo", help=" "), "needs a line of help"),
        (row("demo", type=set), "no type that a setting can have"),
        (row("demo", default="x"), "its default 'x' doesn't fit its type"),
    ],
)
def test_row_that_makes_no_sense_is_an_error_that_names_the_plugin(
    wrong: Setting, message: str, conf: Settings
) -> None:
    with pytest.raises(ConfigError, match=f"of plugin 'demo' is wrong: .*{message}"):
        conf.add_settings([wrong], owner="demo")


# -- showing ----------------------------------------------------------------------------------


SECRETS = {
    "broker_url": "redis://u:hunter2@h/0",
    "result_backend": "redis://h/0?password=hunter2",
    "broker_transport_options": {"sentinel": {"password": "hunter2"}, "retries": 3},
}


def test_shown_settings_hold_no_secret(make_conf: MakeConf) -> None:
    conf = make_conf(**SECRETS)
    conf.add_settings(
        [
            row("demo_word", type=str, default="hunter2", secret=True),
            row("demo_api_key", type=str, default="hunter2"),
        ],
        owner="demo",
    )

    assert "hunter2" not in str(conf.table())
    assert "hunter2" not in conf.humanize(with_defaults=True)
    assert "hunter2" not in repr(conf)
    assert conf.table()["broker_url"] == f"redis://u:{MASK}@h/0"
    assert conf.table()["broker_transport_options"] == {
        "sentinel": {"password": MASK},
        "retries": 3,
    }
    assert conf.table()["demo_word"] == MASK


def test_uncensored_table_holds_values(make_conf: MakeConf) -> None:
    assert make_conf(**SECRETS).table(censored=False)["broker_url"] == SECRETS["broker_url"]


def test_secret_that_is_not_given_is_shown_as_none(conf: Settings) -> None:
    conf.add_settings([row("demo_token", type=str | None, default=None)], owner="demo")

    assert conf.table()["demo_token"] is None


@pytest.mark.parametrize(
    "given",
    [
        {"task_always_eager": "redis://u:hunter2@h"},
        {"broker_url": ["redis://u:hunter2@h"]},
        {"broker_url": "redis//u:x@h?password=hunter2"},
        {"worker_concurrency": {"password": "hunter2"}},
        {"task_publish_retry_policy": {"password": "hunter2"}},
        {"task_rutes": "hunter2"},
    ],
)
def test_errors_hold_no_secret(given: dict[str, Any], make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError) as caught:
        make_conf(**given).finalize()
    assert "hunter2" not in str(caught.value)


def test_error_about_a_secret_setting_holds_no_value(make_conf: MakeConf) -> None:
    conf = make_conf(demo_word=["hunter2"])
    conf.add_settings([row("demo_word", type=str, default="", secret=True)], owner="demo")

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    assert "hunter2" not in str(caught.value)


def test_long_value_is_shortened_in_errors(make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError) as caught:
        make_conf(task_acks_late="x" * 1000).finalize()
    assert len(str(caught.value)) < 250


def test_table_without_defaults_has_what_was_given(make_conf: MakeConf) -> None:
    conf = make_conf(task_acks_late=True, task_default_queue="q")

    assert conf.without_defaults() == {"task_default_queue": "q", "task_acks_late": True}
    assert conf.humanize() == "task_default_queue: 'q'\ntask_acks_late: True"


def test_overrides_make_the_same_settings_elsewhere(make_conf: MakeConf) -> None:
    def route(name: str) -> None:
        """Stay behind: it is no data."""

    conf = make_conf(include=["a"], task_routes=route, task_annotations={"*": {"rate_limit": 1}})
    conf.update(task_time_limit="5m")

    sent = pickle.loads(pickle.dumps(conf.overrides()))

    assert sent == {
        "include": ("a",),
        "task_annotations": {"*": {"rate_limit": 1}},
        "task_time_limit": 300.0,
    }
    assert make_conf(**sent).without_defaults() == sent
