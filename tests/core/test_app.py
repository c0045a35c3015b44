from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import types
import weakref

import pytest

from umbel import Task, Umbel
from umbel.errors import BrokerError, ConfigError, UnknownPluginError
from umbel.plugins import PluginManager
from umbel.tasks import AsyncTask


def sample(x):
    return x


async def async_sample(x):
    return x


class Holder:
    @staticmethod
    def method(x):
        return x


# -- making an app ------------------------------------------------------------------------------


def test_making_an_app_reads_opens_and_loads_nothing(monkeypatch):
    loads = []
    monkeypatch.setattr(PluginManager, "_load", lambda self: loads.append(1))

    app = Umbel("proj", broker="nowhere://", task_acks_lat=True, plugins=PluginManager())

    @app.task
    def add(x):
        return x

    assert (loads, app.conf.finalized) == ([], False)


def test_constructor_gives_settings(make_app):
    app = make_app(broker="memory://x", backend="disabled://", include=["a"], task_acks_late=False)

    assert app.conf.broker_url == "memory://x"
    assert app.conf.result_backend is None
    assert app.conf.include == ("a",)
    assert app.conf.task_acks_late is False


def test_misspelt_setting_is_an_error_at_first_use(make_app):
    app = make_app(task_acks_lat=False)

    with pytest.raises(ConfigError, match="did you mean task_acks_late"):
        app.finalize()


def test_app_is_named_in_its_repr():
    assert repr(Umbel("proj")) == "<Umbel proj>"
    assert repr(Umbel()) == "<Umbel (no name)>"


def test_app_that_nobody_holds_is_freed():
    app = Umbel("gone", broker="memory://")
    app.task(name="t")(sample).delay(1)
    app.close()
    reference = weakref.ref(app)

    del app
    gc.collect()

    assert reference() is None


# -- tasks --------------------------------------------------------------------------------------


def test_decorator_works_bare_and_with_options(app):
    assert app.task(sample).queue is None
    assert app.task(name="b", queue="slow")(sample).queue == "slow"


def test_name_is_module_and_qualified_name(app):
    assert app.task(sample).name == f"{sample.__module__}.sample"
    assert app.task(Holder.method).name == f"{sample.__module__}.Holder.method"


def test_name_leaves_enclosing_functions_out(app):
    @app.task
    def inner():
        return 1

    assert inner.name == f"{sample.__module__}.inner"


def test_module_that_is_the_program_is_called_as_the_app_is(app):
    assert app.gen_task_name("add", "__main__") == "proj.add"


def test_program_of_an_app_without_name_is_called_by_its_file(make_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", program(file="/srv/jobs.py"))

    assert make_app("").gen_task_name("add", "__main__") == "jobs.add"


def test_program_run_as_a_module_is_called_by_its_name(make_app, monkeypatch):
    main = program(spec="pkg.jobs.__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    assert make_app("").gen_task_name("add", "__main__") == "pkg.jobs.add"


def test_name_that_a_worker_wont_know_is_warned_of(app, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "__main__", program(file="/srv/jobs.py"))
    monkeypatch.setattr(sample, "__module__", "__main__")

    app.task(sample)

    assert "calls it jobs.sample and won't know this one" in caplog.text


@pytest.mark.parametrize("options", [{"name": "given"}, {"name": "shop.sample"}, {}])
def test_name_that_a_worker_will_know_is_not_warned_of(make_app, monkeypatch, caplog, options):
    monkeypatch.setitem(sys.modules, "__main__", program(file="/srv/proj.py"))
    monkeypatch.setattr(sample, "__module__", "__main__")

    make_app("proj").task(**options)(sample)

    assert caplog.records == []


def program(file=None, spec=None):
    main = types.ModuleType("__main__")
    main.__file__ = file
    main.__spec__ = types.SimpleNamespace(name=spec) if spec else None
    return main


def test_names_may_be_made_otherwise():
    class Short(Umbel):
        def gen_task_name(self, name, module):
            return name

    assert Short("proj").task(sample).name == "sample"


def test_async_function_makes_an_async_task(app):
    task = app.task(async_sample)

    assert isinstance(task, AsyncTask)
    assert task.is_coroutine
    assert asyncio.run(task(3)) == 3


def test_base_class_of_one_task_and_of_all(make_app):
    class Mine(Task):
        pass

    class Other(Task):
        pass

    app = make_app(task_cls=Mine)

    assert type(app.task(sample)) is Mine
    assert type(app.task(base=Other, name="b")(sample)) is Other
    assert app.Task is Mine


def test_app_class_may_set_the_base_class():
    class Mine(Task):
        pass

    class App(Umbel):
        task_cls = Mine

    assert type(App("proj").task(sample)) is Mine


def test_class_task_is_registered_as_class_or_instance(app):
    class Adder(Task):
        def run(self, x, y):
            return x + y

    class Named(Task):
        name = "proj.named"

        def run(self):
            return self.name

    adder, named = app.register_task(Adder), Named()

    assert adder.name == f"{sample.__module__}.Adder"
    assert app.tasks[adder.name](1, 2) == 3
    assert app.register_task(named) is named
    assert app.tasks["proj.named"]() == "proj.named"


def test_class_task_is_checked_and_sent_like_any_other(app, waiting):
    class Adder(Task):
        name = "proj.adder"
        queue = "slow"

        def run(self, x, y):
            return x + y

    app.register_task(Adder).delay(1, y=2)

    assert waiting(app, "slow")[0].task == "proj.adder"


def test_one_instance_serves_all_runs(make_app):
    class Counting(Task):
        def __init__(self):
            self.runs = 0

    app = make_app()

    @app.task(base=Counting, bind=True)
    def count(self):
        self.runs += 1
        return self.runs

    with app.worker(pool="solo"):
        assert [count.delay().get(timeout=10) for _ in range(3)] == [1, 2, 3]


# -- finalizing ---------------------------------------------------------------------------------


def test_looking_at_tasks_finalizes(app):
    app.task(name="t")(sample)
    assert not app.finalized

    assert list(app.tasks) == ["t"]

    assert app.finalized


def test_finalizing_is_told_once(app):
    told = []
    app.events.add("app_finalized", told.append)

    app.finalize()
    app.finalize()

    assert told == [app]


def test_task_defined_late_is_bound_at_once(make_app):
    app = make_app(task_acks_late=False)
    app.finalize()

    assert vars(app.task(name="late")(sample))["acks_late"] is False


def test_app_whose_settings_are_wrong_can_be_finalized_after_they_are_mended(make_app):
    app = make_app(task_annotations={"*": {"max_retrys": 1}})
    task = app.task(name="t")(sample)
    with pytest.raises(ConfigError):
        app.finalize()

    app.conf.task_annotations = {"*": {"max_retries": 7}}

    assert app.tasks["t"] is task
    assert task.max_retries == 7


def test_settings_changed_later_reach_the_tasks(app):
    task = app.task(name="t")(sample)
    app.finalize()

    app.conf.task_acks_late = False

    assert task.acks_late is False


# -- settings -----------------------------------------------------------------------------------


def test_settings_come_from_an_object(make_app):
    app = make_app()

    app.config_from_object({"task_default_queue": "jobs"})

    assert app.conf.task_default_queue == "jobs"


def test_settings_come_from_a_module_that_a_variable_names(make_app, monkeypatch):
    module = types.ModuleType("sample_settings")
    module.task_default_queue = "jobs"
    monkeypatch.setitem(sys.modules, "sample_settings", module)
    monkeypatch.setenv("PROJ_SETTINGS", "sample_settings")
    app = make_app()

    app.config_from_envvar("PROJ_SETTINGS")

    assert app.conf.task_default_queue == "jobs"


def test_settings_of_plugins_are_settings_of_the_app(make_app):
    from umbel import hookimpl
    from umbel.settings import Setting

    plugin = types.ModuleType("sample")

    @hookimpl
    def umbel_settings():
        return [Setting(name="sample_wait_s", type=float, default=1.0, help="How long.")]

    plugin.umbel_settings = umbel_settings
    app = make_app(plugins=PluginManager([plugin]), sample_wait_s=3)

    assert app.conf["sample_wait_s"] == 3
    assert app.conf.owner_of("sample_wait_s") == "sample"


# -- two apps -----------------------------------------------------------------------------------


def test_two_apps_see_nothing_of_each_other(make_app, waiting):
    one, other = make_app("one"), make_app("other")
    one.task(name="t")(sample).delay(1)
    one.conf.task_default_queue = "ones"

    assert "t" not in other.tasks
    assert waiting(other) == []
    assert other.conf.task_default_queue == "celery"
    assert one.serializer("json") is not other.serializer("json")
    assert one.events is not other.events


# -- connections --------------------------------------------------------------------------------


def test_context_closes_connections(make_app):
    with make_app() as app:
        broker = app.broker

    assert app.broker is not broker


def test_check_is_quiet_where_all_is_well(app):
    app.check()


def test_check_names_what_is_wrong(make_app, tmp_path):
    (tmp_path / "jobs.db").write_text("not a database, but a text that is long enough" * 99)

    with pytest.raises(BrokerError, match=r"jobs\.db"):
        make_app(broker="sqlite:///jobs.db").check()


def test_check_reads_settings_too(make_app):
    with pytest.raises(ConfigError):
        make_app(task_acks_lat=True).check()


@pytest.mark.parametrize("name", ["jsom", "application/x-yaml"])
def test_unknown_serializer_is_an_error(app, name):
    with pytest.raises(UnknownPluginError, match=f"no serializer named '{name}'"):
        app.serializer(name)


def test_unknown_pool_proposes_the_near_one(app):
    with pytest.raises(UnknownPluginError, match="did you mean 'threads'"):
        app.pool("thread")


def test_loggers_have_nobodys_handlers(app):
    app.finalize()

    assert logging.getLogger("umbel").handlers == []


def test_thread_that_comes_amid_finalizing_sees_all_tasks(app, monkeypatch):
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def slow(of):
        begun.set()
        go_on.wait(30)
        of.define_task(sample, options={"name": "shared"})

    monkeypatch.setattr("umbel.app.take_shared_tasks", slow)
    first = threading.Thread(target=app.finalize)
    first.start()
    begun.wait(30)
    second = threading.Thread(target=lambda: seen.append("shared" in app.tasks))
    second.start()
    second.join(0.05)
    go_on.set()
    first.join()
    second.join()

    assert seen == [True]
