from __future__ import annotations

import importlib
import sys

import pytest

from umbel import Task
from umbel.errors import AlreadyRegisteredError, UnknownTaskError


@pytest.fixture
def registry(app):
    """A registry with the tasks proj.add (once called old.add) and proj.mul."""

    @app.task(name="proj.add", aliases=("old.add",))
    def add(x, y):
        return x + y

    @app.task(name="proj.mul")
    def mul(x, y):
        return x * y

    return app.tasks


def test_task_is_found_by_its_name(registry):
    assert registry["proj.add"].name == "proj.add"
    assert registry.get("proj.mul").name == "proj.mul"
    assert registry.resolve("proj.add") is registry["proj.add"]


def test_task_is_found_by_an_old_name(registry):
    assert registry.resolve("old.add") is registry["proj.add"]
    assert "old.add" in registry


def test_iteration_gives_real_names_only(registry):
    assert sorted(registry) == ["proj.add", "proj.mul"]
    assert len(registry) == 2


def test_unknown_name_proposes_the_near_one(registry):
    with pytest.raises(
        UnknownTaskError, match=r"'proj\.ad' is registered; did you mean 'proj\.add"
    ):
        registry["proj.ad"]


def test_quite_unknown_name_says_where_tasks_come_from(registry):
    with pytest.raises(UnknownTaskError, match="include="):
        registry["zzz"]


def test_looking_up_quietly_gives_none(registry):
    assert registry.resolve("zzz") is None
    assert registry.get("zzz") is None
    assert "zzz" not in registry


def test_second_task_of_a_name_is_an_error_that_names_both(app, registry):
    with pytest.raises(AlreadyRegisteredError, match=r"'proj\.add'.*test_registry\.py.*replace="):

        @app.task(name="proj.add")
        def other(x, y):
            return x - y


def test_alias_that_is_taken_is_an_error(app, registry):
    with pytest.raises(AlreadyRegisteredError, match=r"'proj\.mul'"):

        @app.task(name="proj.new", aliases=("proj.mul",))
        def new():
            return 1


def test_refused_task_leaves_nothing_behind(app, registry):
    with pytest.raises(AlreadyRegisteredError):

        @app.task(name="proj.new", aliases=("proj.mul",))
        def new():
            return 1

    assert "proj.new" not in registry


def test_task_may_be_replaced_on_purpose(app, registry):
    @app.task(name="proj.add", replace=True)
    def other(x, y):
        return x - y

    assert app.tasks["proj.add"](3, 2) == 1
    assert "old.add" not in app.tasks


def test_module_that_is_imported_again_brings_its_tasks_anew(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(
        "from umbel import Umbel\n"
        "import twice_app\n"
        "@twice_app.app.task\n"
        "def add(x, y):\n"
        "    return x + y\n"
    )
    (tmp_path / "twice_app.py").write_text("from umbel import Umbel\napp = Umbel('twice')\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("twice")

    second = importlib.reload(first)

    assert sys.modules["twice_app"].app.registry["twice.add"] is second.add


def test_unregistered_task_is_gone_with_its_aliases(registry):
    task = registry.unregister("proj.add")

    assert task.name == "proj.add"
    assert "proj.add" not in registry
    assert "old.add" not in registry


def test_unregistering_what_isnt_there_is_an_error(registry):
    with pytest.raises(UnknownTaskError):
        registry.unregister("zzz")


def test_two_classes_of_one_name_clash(app):
    class One(Task):
        name = "proj.cls"

        def run(self):
            return 1

    class Two(Task):
        name = "proj.cls"

        def run(self):
            return 2

    app.register_task(One)
    with pytest.raises(AlreadyRegisteredError):
        app.register_task(Two)


def test_repr_lists_names(registry):
    assert repr(registry) == "<TaskRegistry: proj.add, proj.mul>"
