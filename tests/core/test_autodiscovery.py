from __future__ import annotations

import importlib
import sys

import pytest

from umbel.autodiscovery import import_entry_points, import_modules, related_modules
from umbel.errors import AppLoadError, ConfigError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Returns a function that writes modules that can be imported; forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(**sources):
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            if path.parent != tmp_path:
                (path.parent / "__init__.py").touch()
            path.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_packages_without_the_module_are_passed_over(project):
    project(shop__tasks="", blog__views="")

    assert related_modules(["shop", "blog"], "tasks") == ["shop.tasks"]


def test_modules_may_have_another_name(project):
    project(shop__jobs="")

    assert related_modules(["shop"], "jobs") == ["shop.jobs"]
    assert related_modules(["shop"], None) == ["shop"]


def test_packages_may_come_from_a_function(project):
    project(shop__tasks="")

    assert related_modules(lambda: ["shop"], "tasks") == ["shop.tasks"]


def test_plain_module_has_no_related_ones(project):
    project(single="")

    assert related_modules(["single"], "tasks") == []


def test_package_that_isnt_there_is_an_error():
    with pytest.raises(ConfigError, match="there is no package 'shopp'"):
        related_modules(["shopp"], "tasks")


def test_name_in_the_place_of_a_list_is_an_error():
    with pytest.raises(ConfigError, match=r"pass \['shop'\]"):
        related_modules("shop", "tasks")


def test_module_that_isnt_there_is_an_error():
    with pytest.raises(AppLoadError, match=r"no module named 'nowhere'.*'nowhere\.tasks'"):
        import_modules(["nowhere.tasks"])


def test_error_inside_a_module_passes_as_it_is(project):
    project(shop__tasks="import not_installed_anywhere")

    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        import_modules(["shop.tasks"])
    with pytest.raises(ZeroDivisionError):
        project(broken="1 / 0")
        import_modules(["broken"])


# -- through the app ------------------------------------------------------------------------------

TASK = "from umbel import shared_task\n@shared_task(name={name!r})\ndef task(): return 1\n"


def test_tasks_come_from_include_imports_and_discovery(project, make_app):
    project(
        one=TASK.format(name="one"), two=TASK.format(name="two"), shop__tasks=TASK.format(name="3")
    )
    app = make_app(include=["one"], imports=["two"])
    app.autodiscover_tasks(["shop"])
    assert "shop.tasks" not in sys.modules

    app.import_tasks()

    assert {"one", "two", "3"} <= set(app.tasks)
    assert app.finalized


def test_discovery_may_be_forced_at_once(project, make_app):
    project(shop__tasks="")

    make_app().autodiscover_tasks(["shop"], force=True)

    assert "shop.tasks" in sys.modules


def test_discovery_without_packages_takes_the_apps_own(project, make_app):
    project(shop__tasks="")
    app = make_app("shop")
    app.autodiscover_tasks()

    app.import_tasks()

    assert "shop.tasks" in sys.modules


def test_importing_twice_imports_what_was_added_meanwhile(project, make_app):
    project(shop__tasks="", blog__tasks="")
    app = make_app()
    app.autodiscover_tasks(["shop"])
    app.import_tasks()

    app.autodiscover_tasks(["blog"])
    app.import_tasks()

    assert "blog.tasks" in sys.modules


def test_importing_is_told_before_it_happens(project, make_app):
    project(shop__tasks="")
    app, told = make_app(include=["shop.tasks"]), []
    app.events.add("import_modules", lambda app: told.append("shop.tasks" in sys.modules))

    app.import_tasks()

    assert told == [False]


def test_module_of_include_that_isnt_there_is_named(make_app):
    with pytest.raises(AppLoadError, match="no module named 'shopp', which include="):
        make_app(include=["shopp"]).import_tasks()


def test_import_that_failed_is_tried_again(project, make_app):
    project(shop__tasks="")
    app = make_app(include=["later"])
    app.autodiscover_tasks(["later_too"])
    for error, sources in ((AppLoadError, {"later": ""}), (ConfigError, {"later_too__tasks": ""})):
        with pytest.raises(error, match="later"):
            app.import_tasks()
        project(**sources)
        importlib.invalidate_caches()

    app.import_tasks()

    assert {"later", "later_too.tasks"} <= set(sys.modules)


def test_module_may_ask_for_what_is_happening(project, make_app):
    project(asking="from umbel.current_app import current_app\ncurrent_app().import_tasks()\n")
    app = make_app(include=["asking"], set_as_current=True)

    app.import_tasks()

    assert app.finalized


def test_distributions_name_their_task_modules(project, make_app, tmp_path):
    project(lib_tasks=TASK.format(name="lib.task"))
    install(tmp_path, "lib_tasks")
    app = make_app()

    app.import_tasks()

    assert "lib.task" in app.tasks


def test_distribution_whose_tasks_cant_be_imported_is_named(project, tmp_path):
    project(lib_tasks="1 / 0")
    install(tmp_path, "lib_tasks")

    with pytest.raises(AppLoadError, match=r"'lib_tasks' of distribution 'lib'.*ZeroDivisionError"):
        import_entry_points()


def install(folder, module):
    info = folder / "lib-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lib\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[umbel.tasks]\nlib = {module}\n")
