from __future__ import annotations

import importlib.metadata
import logging
import sys
import types

import pytest

from umbel import hookimpl
from umbel.errors import PluginClashError, PluginError, UnknownPluginError
from umbel.plugins import EXTRAS, Kind, PluginManager, installed_plugins
from umbel.settings import Setting


def module(name, **hooks):
    """A hooks module with the functions `hooks`, marked."""
    made = types.ModuleType(name)
    for hook, function in hooks.items():
        function.__module__ = name
        setattr(made, hook, hookimpl(function))
    return made


def factory(url, *, options, clock):
    raise AssertionError("no test opens it")


def other_factory(url, *, options, clock):
    raise AssertionError("no test opens it")


@pytest.fixture
def manager():
    """Returns a manager of the given hook modules alone."""
    return lambda *modules: PluginManager(modules, installed=False)


def test_offer_is_found_by_name(manager):
    plugins = manager(module("one", umbel_brokers=lambda: {"x": factory}))

    assert plugins.offer(Kind.BROKER, "x") is factory
    assert plugins.names(Kind.BROKER) == ["x"]
    assert plugins.offers(Kind.BROKER, "x")
    assert not plugins.offers(Kind.BACKEND, "x")


def test_nothing_is_loaded_or_asked_before_the_first_question(manager):
    asked = []

    def offer():
        asked.append(1)
        return {"x": factory}

    plugins = manager(module("one", umbel_brokers=offer))
    assert asked == []

    plugins.offer(Kind.BROKER, "x")
    plugins.offer(Kind.BROKER, "x")
    assert asked == [1]


def test_unknown_name_proposes_the_near_one(manager):
    plugins = manager(module("one", umbel_brokers=lambda: {"sqlite": factory}))

    with pytest.raises(UnknownPluginError, match="no broker named 'sqlit' is installed; did you m"):
        plugins.offer(Kind.BROKER, "sqlit")


@pytest.mark.parametrize(
    "scheme, extra",
    [
        ("redis", "redis"),
        ("rediss", "redis"),
        ("sentinel", "redis"),
        ("sqs", "sqs"),
        ("mongodb", "mongo"),
        ("mongodb+srv", "mongo"),
        ("amqp", "amqp"),
        ("amqps", "amqp"),
        ("pyamqp", "amqp"),
    ],
)
def test_known_scheme_names_what_to_install(manager, scheme, extra):
    with pytest.raises(
        UnknownPluginError, match=rf'install it with: pip install "umbel\[{extra}\]"'
    ):
        manager().offer(Kind.BACKEND, scheme)
    assert EXTRAS[scheme] == extra


def test_two_plugins_with_one_name_clash_when_it_is_asked_for(manager):
    plugins = manager(
        module("one", umbel_brokers=lambda: {"x": factory, "y": factory}),
        module("two", umbel_brokers=lambda: {"x": other_factory}),
    )

    with pytest.raises(PluginClashError, match=r"broker 'x' is offered by more than one.*one, two"):
        plugins.offer(Kind.BROKER, "x")
    assert plugins.offer(Kind.BROKER, "y") is factory


def test_plugin_that_cant_be_imported_takes_no_other_down(monkeypatch, caplog, tmp_path):
    plugins = installed(
        monkeypatch,
        tmp_path,
        broken="raise RuntimeError('no libfoo')",
        fine="from umbel import hookimpl\n@hookimpl\ndef umbel_brokers(): return {'fine': print}\n",
    )

    assert plugins.offer(Kind.BROKER, "fine") is print
    states = {report.name: (report.state, report.error) for report in plugins.report()}
    assert states["broken"] == ("failed", "RuntimeError: no libfoo")
    assert states["fine"] == ("ok", None)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "plugin dist-broken isn't used: RuntimeError: no libfoo" in record.message


def test_broken_plugin_is_the_reason_when_its_scheme_is_asked_for(monkeypatch, tmp_path):
    plugins = installed(monkeypatch, tmp_path, broker_sqs="raise RuntimeError('no libfoo')")

    with pytest.raises(PluginError, match=r"'sqs'.*dist-broker_sqs: RuntimeError: no libfoo"):
        plugins.offer(Kind.BROKER, "sqs")


@pytest.mark.parametrize("error", ["import nowhere", "raise SystemExit(3)", "def broken(:"])
def test_any_failure_of_loading_is_isolated(monkeypatch, tmp_path, error):
    plugins = installed(monkeypatch, tmp_path, broken=error)

    assert [report.state for report in plugins.report() if report.name == "broken"] == ["failed"]


def test_offer_that_fails_leaves_the_plugins_other_offers(manager, caplog):
    def fails():
        raise RuntimeError("no libfoo")

    plugins = manager(
        module("one", umbel_brokers=fails, umbel_backends=lambda: {"x": factory}),
        module("two", umbel_brokers=lambda: {"y": factory}),
    )

    assert plugins.names(Kind.BROKER) == ["y"]
    assert plugins.names(Kind.BACKEND) == ["x"]
    (one, two) = plugins.report()
    assert one.error == "umbel_brokers() failed: RuntimeError: no libfoo"
    assert two.error is None


def test_offer_of_a_wrong_form_is_the_plugins_fault(manager):
    plugins = manager(module("one", umbel_brokers=lambda: [factory]))

    assert "must return a mapping, not list" in plugins.report()[0].error


def test_plugin_may_offer_nothing(manager):
    assert manager(module("one", umbel_brokers=lambda: None)).names(Kind.BROKER) == []


def test_hook_that_umbel_doesnt_have_is_reported_with_the_near_one(manager):
    plugins = manager(module("one", umbel_broker=lambda: None))

    (report,) = plugins.report()
    assert report.error == (
        "it implements umbel_broker, which umbel doesn't have; did you mean umbel_brokers?"
    )


def test_hook_with_an_unknown_argument_is_reported(manager):
    plugins = manager(module("one", umbel_task_received=lambda reqest: None))

    assert "reqest" in plugins.report()[0].error
    assert plugins.listeners("task_received") == ()


def test_wrapper_is_reported(manager):
    made = types.ModuleType("one")

    @hookimpl(wrapper=True)
    def umbel_brokers():
        return (yield)

    made.umbel_brokers = umbel_brokers

    assert "take plain functions only" in manager(made).report()[0].error


def test_hook_of_an_absent_host_is_no_fault(manager):
    made = types.ModuleType("one")

    @hookimpl(optionalhook=True)
    def umbel_commands():
        return []

    made.umbel_commands = umbel_commands

    assert manager(made).report()[0].error is None


def test_listener_takes_the_arguments_it_wants(manager):
    heard = []
    plugins = manager(
        module("one", umbel_task_failed=lambda error, task: heard.append((task, error))),
        module("two", umbel_task_failed=lambda: heard.append("none")),
        module(
            "three",
            umbel_task_failed=lambda task, request, error, exception: heard.append(
                (task, request, error, exception)
            ),
        ),
    )

    for listener in plugins.listeners("task_failed"):
        listener("task", "request", "error", "exception")

    assert heard == [("task", "request", "error", "exception"), "none", ("task", "error")]


def test_listener_may_ask_to_be_first_or_last(manager):
    heard = []
    made = [types.ModuleType(name) for name in ("last", "first", "usual")]
    for each, options in zip(made, ({"trylast": True}, {"tryfirst": True}, {}), strict=True):

        def umbel_worker_ready(name=each.__name__):
            heard.append(name)

        each.umbel_worker_ready = hookimpl(**options)(umbel_worker_ready)

    for listener in manager(*made).listeners("worker_ready"):
        listener("worker")

    assert heard == ["first", "usual", "last"]


def test_nobody_listens_where_no_plugin_does(manager):
    assert manager().listeners("task_failed") == ()


def test_settings_come_with_their_plugin(manager):
    row = Setting(name="sqs_wait_s", type=float, default=1.0, help="How long.")
    plugins = manager(module("sqs", umbel_settings=lambda: [row]), module("none"))

    assert plugins.settings() == [("sqs", [row])]


def test_report_tells_what_is_offered(monkeypatch, tmp_path):
    plugins = installed(
        monkeypatch,
        tmp_path,
        fine="from umbel import hookimpl\n"
        "@hookimpl\n"
        "def umbel_brokers(): return {'b': print, 'a': print}\n",
    )

    report = next(report for report in plugins.report() if report.name == "fine")

    assert (report.distribution, report.version) == ("dist-fine", "1.2")
    assert report.offers == {"broker": ["a", "b"]}
    assert report.load_ms > 0


def test_core_offers_its_own_without_any_installed_metadata(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    uncached(monkeypatch)

    assert PluginManager().names(Kind.BROKER) == ["memory", "sqlite"]


def test_installed_plugins_are_the_same_for_all_apps():
    assert installed_plugins() is installed_plugins()


def test_handed_in_plugin_is_used_beside_the_installed_ones():
    plugins = PluginManager([module("mine", umbel_brokers=lambda: {"x": factory})])

    assert {"memory", "sqlite", "x"} <= set(plugins.names(Kind.BROKER))


def uncached(monkeypatch):
    from umbel import plugins

    monkeypatch.setattr(plugins, "_entry_points", plugins._entry_points.__wrapped__)


def installed(monkeypatch, tmp_path, **sources):
    """Returns a manager that finds these modules as if they were installed."""
    for name, source in sources.items():
        (tmp_path / f"plugin_{name}.py").write_text(source)
        info = tmp_path / f"dist_{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[umbel]\n{name} = plugin_{name}\n")
        monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    uncached(monkeypatch)
    return PluginManager()
