"""Settings out of modules, classes, instances and mappings."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from umbel.errors import ConfigError
from umbel.settings import Settings

MakeConf = Callable[..., Settings]
WriteModule = Callable[..., str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write a module that can be imported; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def write(text: str, name: str = "settings_of_test") -> str:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, "utf-8")
        written.append(name)
        importlib.invalidate_caches()
        return name

    yield write
    for name in written:
        for loaded in [module for module in sys.modules if name.startswith(module)]:
            del sys.modules[loaded]


CELERYCONFIG = """\
from __future__ import annotations
import logging
import os.path
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).parent
log = logging.getLogger(__name__)
_helper = ["x"]

def route(name, args, kwargs, options, task=None, **kw):
    return {"queue": "slow"}

class Router:
    pass

broker_url = "redis://h/0"
result_expires = timedelta(hours=1)
imports = ["proj.tasks"]
task_routes = (route,)
enable_utc = True
"""


def test_module_is_read_by_its_dotted_name(conf: Settings, write_module: WriteModule) -> None:
    conf.config_from_object(write_module(CELERYCONFIG))

    assert conf.broker_url == "redis://h/0"
    assert conf.result_expires == 3600.0
    assert conf.imports == ("proj.tasks",)
    assert conf.source_of("broker_url") == "module settings_of_test"


def test_module_object_is_read(conf: Settings, write_module: WriteModule) -> None:
    module = importlib.import_module(write_module("task_default_queue = 'q'"))

    conf.config_from_object(module)

    assert conf.task_default_queue == "q"


@pytest.mark.parametrize("path", ["{}:Config", "{}.Config", "{}:Config.Inner"])
def test_attribute_of_a_module_is_read(
    path: str, conf: Settings, write_module: WriteModule
) -> None:
    name = write_module(
        "class Config:\n"
        "    task_default_queue = 'q'\n"
        "    class Inner:\n"
        "        task_default_queue = 'q'\n"
    )

    conf.config_from_object(path.format(name))

    assert conf.task_default_queue == "q"


def test_module_in_a_package_is_read(conf: Settings, write_module: WriteModule) -> None:
    conf.config_from_object(write_module("task_default_queue = 'q'", "package_of_test.config"))

    assert conf.task_default_queue == "q"


class Base:
    task_default_queue = "base"


class Config(Base):
    """Has what a class has."""

    task_acks_late = False

    def method(self) -> None:
        """Be no setting."""


def test_class_is_read_with_its_bases(conf: Settings) -> None:
    conf.config_from_object(Config)

    assert conf.task_default_queue == "base"
    assert conf.task_acks_late is False
    assert conf.source_of("task_acks_late").startswith("class ")
    assert conf.source_of("task_acks_late").endswith("Config")


def test_instance_is_read(conf: Settings) -> None:
    instance = Config()
    instance.task_default_queue = "own"

    conf.config_from_object(instance)

    assert conf.task_default_queue == "own"


@dataclasses.dataclass
class ConfigDataclass:
    task_default_queue: str = "fields"


class ConfigStruct(msgspec.Struct):
    task_default_queue: str = "fields"


class ConfigModel(pydantic.BaseModel):
    model_config = {"frozen": True}
    task_default_queue: str = "fields"


@pytest.mark.parametrize("kind", [ConfigDataclass, ConfigStruct, ConfigModel])
def test_object_with_declared_fields_is_read(kind: type, conf: Settings) -> None:
    conf.config_from_object(kind())

    assert conf.task_default_queue == "fields"


def test_mapping_is_read(conf: Settings) -> None:
    conf.config_from_object({"task_default_queue": "q"})

    assert conf.task_default_queue == "q"
    assert conf.source_of("task_default_queue") == "a mapping given to config_from_object"


def test_later_object_wins_over_an_earlier_one(conf: Settings) -> None:
    conf.config_from_object({"task_default_queue": "first", "task_acks_late": False})
    conf.config_from_object({"task_default_queue": "second"})

    assert conf.task_default_queue == "second"
    assert conf.task_acks_late is False


def test_object_given_after_the_first_look_counts(conf: Settings) -> None:
    assert conf.task_default_queue == "celery"

    conf.config_from_object({"task_default_queue": "q"})

    assert conf.task_default_queue == "q"


# -- namespaces -------------------------------------------------------------------------------


DJANGO = """\
DEBUG = True
broker_ulr = "not ours"
CELERY_BROKER_URL = "redis://h/0"
CELERY_TASK_ALWAYS_EAGER = True
CELERYD_POOL = "x"
"""


def test_only_names_in_the_namespace_are_read(conf: Settings, write_module: WriteModule) -> None:
    conf.config_from_object(write_module(DJANGO), namespace="CELERY")

    assert conf.broker_url == "redis://h/0"
    assert conf.task_always_eager is True
    assert conf.source_of("task_always_eager") == (
        "CELERY_TASK_ALWAYS_EAGER in module settings_of_test"
    )


def test_mapping_is_read_in_a_namespace(conf: Settings) -> None:
    given = {"CELERY_TASK_DEFAULT_QUEUE": "q", "OTHER": 1, "task_default_queue": "not this"}
    conf.config_from_object(given, namespace="CELERY")

    assert conf.task_default_queue == "q"


def test_lower_case_namespace_is_read(conf: Settings) -> None:
    class Config:
        celery_task_default_queue = "q"
        celery_app = object()

    conf.config_from_object(Config, namespace="celery")

    assert conf.task_default_queue == "q"


def test_unknown_name_in_the_namespace_is_an_error_with_the_right_one(conf: Settings) -> None:
    conf.config_from_object({"CELERY_TASK_ALWAYS_EGER": True}, namespace="CELERY")

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    assert str(caught.value) == (
        "task_always_eger is no setting; did you mean CELERY_TASK_ALWAYS_EAGER? "
        "(from CELERY_TASK_ALWAYS_EGER in a mapping given to config_from_object)"
    )


def test_attributes_outside_of_the_namespace_are_not_touched(conf: Settings) -> None:
    class LazySettings:
        CELERY_TASK_DEFAULT_QUEUE = "q"

        @property
        def EXPENSIVE(self) -> Any:
            raise AssertionError

    conf.config_from_object(LazySettings(), namespace="CELERY")

    assert conf.task_default_queue == "q"


# -- mistakes ---------------------------------------------------------------------------------


def test_unknown_lower_case_data_in_a_module_is_an_error(
    conf: Settings, write_module: WriteModule
) -> None:
    conf.config_from_object(write_module("task_rutes = {}\n"))

    with pytest.raises(ConfigError, match=r"task_rutes is no setting; did you mean task_routes\?"):
        conf.finalize()


@pytest.mark.parametrize("name", ["task_rutes", "TASK_RUTES", "Zzz"])
def test_any_unknown_key_of_a_mapping_is_an_error(name: str, conf: Settings) -> None:
    conf.config_from_object({name: logging.getLogger()})

    with pytest.raises(ConfigError, match=f"{name} is no setting"):
        conf.finalize()


@pytest.mark.parametrize(
    "old,message",
    [
        ("CELERY_RESULT_BACKEND", 'write result_backend (or pass namespace="CELERY")'),
        ("BROKER_URL", "settings are written in lower case; write broker_url (from"),
        ("TASK_ROUTES", "write task_routes (from"),
        ("BROKER_POOL_LIMIT", "BROKER_POOL_LIMIT is a setting of Celery that umbel doesn't have"),
        ("CELERYBEAT_SCHEDULE", "install the plugin"),
    ],
)
def test_upper_case_name_without_a_namespace_is_an_error(
    old: str, message: str, conf: Settings, write_module: WriteModule
) -> None:
    conf.config_from_object(write_module(f"{old} = 'redis://h/0'\n"))

    with pytest.raises(ConfigError) as caught:
        conf.finalize()
    assert message in str(caught.value)


def test_upper_case_constant_behind_a_setting_is_no_mistake(
    conf: Settings, write_module: WriteModule
) -> None:
    conf.config_from_object(
        write_module("REDIS_HOST = 'h'\nBROKER_URL = 'redis://h/0'\nbroker_url = BROKER_URL\n")
    )

    assert conf.broker_url == "redis://h/0"


def test_celery_setting_without_a_place_is_an_error_with_advice(conf: Settings) -> None:
    conf.config_from_object({"worker_state_db": "x"})

    with pytest.raises(ConfigError, match="revokes are kept by the coordinator; remove it"):
        conf.finalize()


def test_missing_module_is_an_error_that_names_it(conf: Settings) -> None:
    conf.config_from_object("no_such_module.config")

    with pytest.raises(ConfigError, match=r"'no_such_module\.config': there is no module 'no_such"):
        conf.finalize()


def test_missing_module_is_no_error_when_silent(conf: Settings) -> None:
    conf.config_from_object("no_such_module.config", silent=True)

    assert conf.task_default_queue == "celery"


@pytest.mark.parametrize("attribute", ["Config", "Config.Inner"])
def test_missing_attribute_is_an_error(
    attribute: str, conf: Settings, write_module: WriteModule
) -> None:
    conf.config_from_object(f"{write_module('')}:{attribute}")

    with pytest.raises(ConfigError, match=f"'settings_of_test' has no '{attribute}'"):
        conf.finalize()


def test_error_inside_of_the_module_passes_through_even_when_silent(
    conf: Settings, write_module: WriteModule
) -> None:
    conf.config_from_object(write_module("import no_such_module_either\n"), silent=True)

    with pytest.raises(ModuleNotFoundError, match="no_such_module_either"):
        conf.finalize()


def test_module_is_imported_at_the_first_look(conf: Settings, write_module: WriteModule) -> None:
    name = write_module("task_default_queue = 'q'\n")
    conf.config_from_object(name)

    assert name not in sys.modules
    conf.finalize()
    assert name in sys.modules


def test_forced_object_is_read_at_once(conf: Settings) -> None:
    with pytest.raises(ConfigError, match="did you mean task_routes"):
        conf.config_from_object({"task_rutes": {}}, force=True)


def test_key_that_is_no_text_is_an_error(conf: Settings) -> None:
    with pytest.raises(ConfigError, match="settings have names; 1"):
        conf.config_from_object({1: 2}, force=True)


# -- by an environment variable ---------------------------------------------------------------


def test_environment_variable_names_the_module(
    make_conf: MakeConf, write_module: WriteModule
) -> None:
    conf = make_conf({"PROJ_CONFIG": write_module("task_default_queue = 'q'\n")})

    conf.config_from_envvar("PROJ_CONFIG")

    assert conf.task_default_queue == "q"


def test_missing_environment_variable_is_an_error(conf: Settings) -> None:
    with pytest.raises(ConfigError, match="'PROJ_CONFIG' must name the module"):
        conf.config_from_envvar("PROJ_CONFIG")


def test_missing_environment_variable_is_no_error_when_silent(conf: Settings) -> None:
    conf.config_from_envvar("PROJ_CONFIG", silent=True)

    assert conf.task_default_queue == "celery"
