from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import weakref

import pytest

from umbel import Task, Umbel, shared_task
from umbel.current_app import current_app, set_current
from umbel.errors import NoCurrentAppError


def make_shared(**options):
    @shared_task(name="lib.add", **options)
    def add(x, y=2):
        return x + y

    return add


def test_only_app_is_the_current_one(make_app):
    app = make_app()

    assert current_app() is app


def test_no_app_is_an_error_that_says_so():
    with pytest.raises(NoCurrentAppError, match="there is no app in this process"):
        current_app()


def test_several_apps_are_an_error_that_names_them(make_app):
    apps = [make_app("one"), make_app("two")]

    with pytest.raises(NoCurrentAppError, match=r"2 apps.*\('one', 'two'\).*set_current"):
        current_app()
    assert len(apps) == 2


def test_app_that_was_made_current_is_the_one(make_app):
    one, two = make_app("one"), make_app("two")

    one.set_current()
    assert current_app() is one
    two.set_current()
    assert current_app() is two
    set_current(None)
    with pytest.raises(NoCurrentAppError):
        current_app()


def test_app_may_be_made_current_as_it_is_made(make_app):
    make_app("one")
    two = make_app("two", set_as_current=True)

    assert current_app() is two


def test_current_app_is_not_kept_alive():
    app = Umbel("gone", set_as_current=True)

    del app
    gc.collect()

    with pytest.raises(NoCurrentAppError):
        current_app()


def test_shared_task_is_in_every_app(make_app):
    make_shared()
    one, two = make_app("one"), make_app("two")

    assert one.tasks["lib.add"](1) == 3
    assert two.tasks["lib.add"](1) == 3
    assert one.tasks["lib.add"] is not two.tasks["lib.add"]


def test_shared_task_comes_to_an_app_that_is_finalized_already(make_app):
    app = make_app()
    app.finalize()

    make_shared()

    assert "lib.add" in app.tasks


def test_shared_task_sends_through_the_current_app(make_app, waiting):
    add = make_shared(queue="slow")
    one, two = make_app("one"), make_app("two")
    two.set_current()

    result = add.delay(1)

    assert [message.id for message in waiting(two, "slow")] == [result.id]
    assert waiting(one, "slow") == []


def test_shared_task_without_an_app_names_itself():
    add = make_shared()

    with pytest.raises(NoCurrentAppError, match=r"shared task '.*add' has no app to run in: there"):
        add.delay(1)


def test_shared_task_is_callable_without_an_app():
    assert make_shared()(1) == 3


def test_bound_shared_task_needs_an_app_also_to_be_called(make_app):
    @shared_task(bind=True)
    def bound(self):
        return self.app.main

    with pytest.raises(NoCurrentAppError):
        bound()

    app = make_app("one")
    assert bound() == app.main


def test_shared_task_works_bare_and_has_the_apps_name_rule(make_app):
    @shared_task
    def bare():
        return 1

    app = make_app()

    assert bare.__name__ == "bare"
    assert bare.name == f"{bare.__module__}.bare"
    assert bare.name in app.tasks


def test_shared_task_takes_a_base_class(make_app):
    class Mine(Task):
        pass

    @shared_task(base=Mine)
    def based():
        return 1

    app = make_app()

    assert type(app.tasks[based.name]) is Mine


def test_shared_task_is_one_object_in_an_app(make_app):
    add, app = make_shared(), make_app()

    assert add.current() is app.tasks["lib.add"]
    assert add.current() is add.current()


def test_shared_tasks_dont_keep_apps_alive():
    make_shared()
    app = Umbel("gone", broker="memory://")
    app.finalize()
    reference = weakref.ref(app)

    del app
    gc.collect()

    assert reference() is None


def test_repr_names_the_function():
    assert repr(make_shared()).startswith("<SharedTask ")


def test_library_of_shared_tasks_makes_no_app(tmp_path):
    (tmp_path / "lib.py").write_text(
        "from umbel import shared_task\n@shared_task\ndef add(x): return x\n"
    )
    code = "import lib; from umbel.current_app import _apps; print(len(_apps))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.strip() == "0"


@pytest.mark.parametrize("name", ["__self__", "__signature__", "pytestmark"])
def test_shared_task_without_an_app_can_be_asked_for_what_it_has_not(name):
    assert not hasattr(make_shared(), name)


def test_shared_task_without_an_app_has_a_signature():
    assert list(inspect.signature(make_shared()).parameters) == ["x", "y"]
