from __future__ import annotations

import multiprocessing
import os
import types

import pytest

from umbel import hookimpl
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.errors import ConfigError, UnknownPluginError
from umbel.handles import scheme_of
from umbel.interfaces.broker import Capability
from umbel.plugins import PluginManager


class Recording:
    """A handle that remembers how it was made and whether it was closed."""

    capabilities = frozenset(Capability)

    def __init__(self, url, options):
        self.url, self.options, self.closed = url, options, False
        self.configured = None

    def configure(self, **given):
        self.configured = given

    def close(self):
        self.closed = True


@pytest.fixture
def plugins():
    """Core's plugins, and one that offers broker, backend and coordinator ``rec://``."""
    made = types.ModuleType("rec")

    def factory(url, *, options, clock):
        return Recording(url, options)

    for kind in ("brokers", "backends", "coordinators"):
        name = f"umbel_{kind}"

        def offer():
            return {"rec": factory}

        offer.__name__ = offer.__qualname__ = name
        setattr(made, name, hookimpl(offer))
    return PluginManager([made])


def test_handle_is_opened_once(app):
    assert app.broker is app.broker
    assert app.backend is app.backend
    assert app.coordinator is app.coordinator


def test_new_handle_is_the_callers_own(app):
    assert app.open_broker() is not app.broker
    assert app.open_backend() is not app.backend
    assert app.open_coordinator() is not app.coordinator


def test_each_broker_handle_is_told_the_window_and_the_bounds(make_app, plugins):
    app = make_app(
        broker="rec://a",
        backend="rec://b",
        plugins=plugins,
        task_once_window_s=30,
        task_queues={"mail": {"max_length": 5}, "other": None},
    )

    expected = {"once_window_s": 30.0, "bounds": {"mail": 5}}
    assert app.broker.configured == expected
    assert app.open_broker().configured == expected


def test_bound_that_the_broker_cannot_keep_to_is_an_error_that_says_so(
    make_app, plugins, monkeypatch
):
    monkeypatch.setattr(Recording, "capabilities", frozenset())
    app = make_app(broker="rec://a", plugins=plugins, task_queues={"mail": {"max_length": 5}})

    with pytest.raises(ConfigError, match="queue 'mail' has a max_length, which Recording can't"):
        app.open_broker()


def test_url_and_options_go_to_the_factory(make_app, plugins):
    app = make_app(
        broker="rec://a",
        backend="rec://b",
        plugins=plugins,
        broker_transport_options={"x": 1},
        result_backend_transport_options={"y": 2},
    )

    assert (app.broker.url, app.broker.options) == ("rec://a", {"x": 1})
    assert (app.backend.url, app.backend.options) == ("rec://b", {"y": 2})
    assert (app.coordinator.url, app.coordinator.options) == ("rec://b", {"y": 2})


def test_coordinator_is_the_brokers_where_the_backend_offers_none(make_app, plugins):
    app = make_app(broker="rec://a", backend="disabled://", plugins=plugins)

    assert app.coordinator.url == "rec://a"


def test_coordinator_has_a_url_of_its_own(make_app, plugins):
    app = make_app(coordinator_url="rec://c", plugins=plugins)

    assert (app.coordinator.url, app.coordinator.options) == ("rec://c", {})


def test_no_coordinator_where_nobody_offers_one(make_app, plugins, monkeypatch):
    app = make_app(plugins=plugins)
    monkeypatch.setattr(plugins, "offers", lambda kind, name: False)

    assert app.coordinator is None


def test_disabled_results_have_no_backend(make_app):
    assert make_app(backend="disabled://").backend is None


def test_unknown_scheme_names_what_to_install_and_no_password(make_app):
    app = make_app(broker="sqs://user:secret@host/0")

    with pytest.raises(UnknownPluginError, match=r'pip install "umbel\[sqs\]"') as caught:
        app.broker.check()

    assert "secret" not in str(caught.value)


def test_scheme_is_read_in_any_case():
    assert scheme_of("SQLite:///x") == "sqlite"
    assert scheme_of("mongodb+srv://host") == "mongodb+srv"


def test_close_closes_all_and_the_next_use_opens_anew(make_app, plugins):
    app = make_app(broker="rec://a", backend="rec://b", plugins=plugins)
    first = [app.broker, app.backend, app.coordinator]

    app.close()
    app.close()

    assert [handle.closed for handle in first] == [True] * 3
    assert app.broker is not first[0]


def test_memory_of_two_apps_is_apart(make_app):
    one, other = make_app(), make_app()
    one.send_task("t")

    assert one.broker.stats("celery").ready == 1
    assert other.broker.stats("celery").ready == 0
    assert isinstance(one.coordinator, MemoryCoordinator)


def test_wrong_url_is_a_config_error_at_the_first_use(make_app):
    app = make_app(broker="memory://host?x=1")

    with pytest.raises(ConfigError, match="memory"):
        app.broker.check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_opens_handles_of_its_own(make_app, plugins):
    app = make_app(broker="rec://a", backend="rec://b", plugins=plugins)
    parents = app.broker

    def child(pipe):
        own = app.broker
        app.close()
        pipe.send((own is parents, own.closed, parents.closed))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(there,))
    process.start()
    found = here.recv()
    process.join()

    assert found == (False, True, False)
