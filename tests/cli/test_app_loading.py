from __future__ import annotations

import sys

import pytest

from umbel import Umbel
from umbel.errors import AppLoadError, ConfigError
from umbel_cli.app_loading import load_app

_APP = "from umbel import Umbel\n{name} = Umbel('the app')\n"


def error_of(path: str) -> str:
    with pytest.raises(AppLoadError) as caught:
        load_app(path)
    text = str(caught.value)
    assert text.startswith(f"can't load app {path!r}: ")
    assert "\n" not in text
    return text.removeprefix(f"can't load app {path!r}: ")


# -- finding it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app", "celery", "flower_shop"])
def test_module_alone_leads_to_its_app(write, name):
    write("proj.py", _APP.format(name=name))

    loaded = load_app("proj")

    assert isinstance(loaded.app, Umbel)
    assert loaded.path == f"proj:{name}"


def test_app_goes_before_other_names(write):
    write("proj.py", _APP.format(name="app") + "celery = Umbel('a')\nother = Umbel('b')\n")

    assert load_app("proj").path == "proj:app"


def test_one_app_under_two_names_is_one(write):
    write("proj.py", _APP.format(name="one") + "two = one\n")

    assert load_app("proj").app.main == "the app"


def test_attribute_is_taken_by_name(write):
    write("proj.py", _APP.format(name="app") + "other = Umbel('other')\n")

    assert load_app("proj:other").app.main == "other"


def test_attribute_may_be_dotted(write):
    write("proj.py", "from umbel import Umbel\nclass Box:\n    app = Umbel('boxed')\n")

    loaded = load_app("proj:Box.app")

    assert (loaded.app.main, loaded.path) == ("boxed", "proj:Box.app")


@pytest.mark.parametrize("module", ["app", "celery"])
def test_package_leads_to_its_module_of_the_usual_name(write, module):
    write("proj/__init__.py", "")
    write(f"proj/{module}.py", _APP.format(name="app"))

    assert load_app("proj").path == f"proj.{module}:app"


def test_module_as_attribute_is_searched(write):
    write("proj/__init__.py", "")
    write("proj/queue.py", _APP.format(name="app"))
    write("start.py", "from proj import queue\n")

    assert load_app("start:queue").path == "proj.queue:app"


def test_attribute_after_a_dot_is_found_as_in_celery(write):
    write("proj.py", _APP.format(name="jobs"))

    assert load_app("proj.jobs").path == "proj:jobs"


def test_working_directory_goes_first(write, own_folder):
    write("proj.py", _APP.format(name="app"))

    load_app("proj")

    assert sys.path[0] == str(own_folder)


# -- not finding it ---------------------------------------------------------------------------


def test_misspelt_module_is_recognised(write):
    write("project.py", _APP.format(name="app"))

    assert "there is no module 'poject'" in error_of("poject")
    assert error_of("poject").endswith("did you mean 'project'?")


def test_misspelt_module_in_a_package_is_recognised(write):
    write("proj/__init__.py", "")
    write("proj/tasks.py", _APP.format(name="app"))

    text = error_of("proj.taks")

    assert text == (
        "there is no module 'proj.taks' in the package 'proj'; did you mean 'proj.tasks'?"
    )


def test_module_below_a_module_is_explained(write):
    write("proj.py", _APP.format(name="app"))

    assert error_of("proj.tasks.app").endswith("'proj' is a module, not a package")


def test_misspelt_attribute_leads_to_the_near_app(write):
    write("proj.py", _APP.format(name="jobs_app"))

    assert error_of("proj:job_app").endswith("has no attribute 'job_app'; did you mean 'jobs_app'?")


def test_unheard_of_attribute_lists_the_apps(write):
    write("proj.py", _APP.format(name="app"))

    assert error_of("proj:zzz").endswith("(apps there: app)")


def test_attribute_that_is_no_app_is_named(write):
    write("proj.py", _APP.format(name="app") + "settings = {}\n")

    assert error_of("proj:settings") == ("'settings' is a dict, not an Umbel app (apps there: app)")


def test_several_apps_are_all_named(write):
    write("proj.py", "from umbel import Umbel\none = Umbel('1')\ntwo = Umbel('2')\n")

    assert error_of("proj").endswith("has 2 apps, one and two; say which: -A proj:one")


def test_module_without_an_app_is_named_with_its_file(write):
    file = write("proj.py", "x = 1\n")

    assert error_of("proj") == f"there is no Umbel app in module 'proj' ({file})"


@pytest.mark.parametrize(
    "path, meant",
    [
        ("tasks.py", "tasks"),
        ("./tasks.py", "tasks"),
        ("proj/tasks.py:app", "proj.tasks:app"),
        ("proj\\tasks.py", "proj.tasks"),
        ("proj/tasks", "proj.tasks"),
    ],
)
def test_file_name_leads_to_the_module(path, meant):
    assert error_of(path) == f"that is a file, name its module; did you mean -A {meant}?"


@pytest.mark.parametrize("path", ["", ":app", "a b", "a..b", "3"])
def test_what_is_no_name_is_refused(path):
    assert error_of(path) == "it must look like 'module' or 'module:attr'"


# -- modules that can't be imported -----------------------------------------------------------


def test_module_that_imports_a_missing_one_is_named_with_its_line(write):
    write("proj.py", "x = 1\n\nimport no_such_library\n")

    assert error_of("proj") == (
        "proj.py line 3: import no_such_library: "
        "ModuleNotFoundError: No module named 'no_such_library'"
    )


def test_fault_in_another_module_names_that_one(write):
    write("proj/__init__.py", "from proj import tasks\n")
    write("proj/tasks.py", "from umbel import Umbel\n\napp = Umbel('x')\nboom = 1 / 0\n")

    assert error_of("proj") == (
        "proj/tasks.py line 4: boom = 1 / 0: ZeroDivisionError: division by zero"
    )


def test_fault_inside_a_library_names_both_places(write):
    write("proj.py", "import json\nX = json.loads('{')\n")

    text = error_of("proj")

    assert text.startswith("proj.py line 2: X = json.loads('{'): JSONDecodeError: ")
    assert "(raised in " in text
    assert "decoder.py line " in text


def test_syntax_error_is_named_with_its_line(write):
    write("proj.py", "x = 1\ndef broken(:\n")

    assert error_of("proj") == "proj.py line 2: def broken(:: SyntaxError: invalid syntax"


def test_module_that_exits_is_named(write):
    write("proj.py", "import sys\nsys.exit(3)\n")

    assert error_of("proj") == "proj.py line 2: sys.exit(3): it calls sys.exit(3)"


def test_long_and_many_lines_are_kept_short(write):
    write("proj.py", f"raise ValueError('''a\nb''')  # {'x' * 200}\n")

    assert error_of("proj").endswith("ValueError: a b")


def test_wrong_setting_is_an_error_of_configuration_with_its_line(write):
    write(
        "proj.py",
        "from umbel import Umbel\n\napp = Umbel('x', task_acks_lat=True)\napp.conf.finalize()\n",
    )

    with pytest.raises(ConfigError, match=r"proj\.py line \d.*task_acks_late"):
        load_app("proj")


# -- at the terminal --------------------------------------------------------------------------


def test_app_that_cannot_be_loaded_is_one_line_and_exit_code_3(umbel, write):
    write("proj.py", "import no_such_library\n")

    ended = umbel("-A", "proj", "queues")

    assert ended.code == 3
    assert ended.stderr == (
        "Error: can't load app 'proj': proj.py line 1: import no_such_library: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )


@pytest.mark.parametrize("env, args", [({"UMBEL_DEBUG": "1"}, ()), ({}, ("--traceback",))])
def test_whole_traceback_is_there_for_the_asking(umbel, write, env, args):
    write("proj.py", "import no_such_library\n")

    ended = umbel("-A", "proj", "queues", *args, env=env)

    assert ended.code == 3
    assert "Traceback (most recent call last)" in ended.stderr
    assert "proj.py" in ended.stderr


def test_command_that_needs_an_app_says_how_to_name_one(umbel):
    ended = umbel("worker")

    assert ended.code == 2
    assert "-A MODULE[:ATTR] or UMBEL_APP" in ended.stderr
