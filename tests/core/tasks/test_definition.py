from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest

from umbel import Task
from umbel.errors import ConfigError, InvalidTaskError
from umbel.options import HANDLERS, SENT, SOURCES, TaskOptions
from umbel.tasks.definition import TaskDefinition


def sample(x, y=1):
    """Add a little."""
    return x + y


def test_every_option_has_a_place_of_its_own():
    others = {"name", "aliases", "replace", *HANDLERS}

    assert set(TaskOptions.__annotations__) == set(SOURCES) | others
    assert set(SENT) <= set(SOURCES)
    assert set(SOURCES) <= set(TaskDefinition.__annotations__)


def test_every_setting_behind_an_option_exists(app):
    settings = [source.setting for source in SOURCES.values() if source.setting is not None]

    assert [name for name in settings if name not in app.conf] == []


def test_option_comes_from_the_settings(make_app):
    app = make_app(task_acks_late=False, task_time_limit=30, task_ignore_result=True)
    task = app.task(sample)

    assert task.acks_late is False
    assert task.time_limit == 30
    assert task.ignore_result is True


def test_option_of_the_task_wins_over_the_settings(make_app):
    task = make_app(task_acks_late=False).task(acks_late=True)(sample)

    assert task.acks_late is True


def test_attribute_of_the_class_is_an_option(make_app):
    class Careful(Task):
        acks_late = False
        max_retries = None

    app = make_app(task_acks_late=True)

    assert app.task(base=Careful)(sample).acks_late is False
    assert app.task(base=Careful, name="b")(sample).max_retries is None
    assert app.task(base=Careful, name="c", max_retries=2)(sample).max_retries == 2


def test_none_in_a_class_means_as_the_setting_says(make_app):
    class Undecided(Task):
        acks_late = None

    app = make_app(task_acks_late=False)
    task = app.task(base=Undecided)(sample)

    app.finalize()

    assert task.acks_late is False


def test_options_are_as_documented_without_any_setting(app):
    task = app.task(sample)

    assert task.max_retries == 3
    assert task.default_retry_delay == 180
    assert (task.retry_backoff, task.retry_backoff_max, task.retry_jitter) == (False, 600, True)
    assert task.acks_late is True
    assert task.throws == ()
    assert task.serializer == "json"
    assert task.trail is True
    assert task.typing is True


def test_single_exception_may_stand_for_a_list(app):
    assert app.task(throws=KeyError)(sample).throws == (KeyError,)
    assert app.task(name="b", throws=[KeyError, OSError])(sample).throws == (KeyError, OSError)


def test_result_expires_takes_a_timedelta(app):
    assert app.task(result_expires=timedelta(hours=1))(sample).result_expires == 3600


def test_unknown_option_is_an_error_with_the_near_one(app):
    with pytest.raises(InvalidTaskError, match="no option 'max_retires'; did you mean 'max_retrie"):
        app.task(max_retires=3)(sample)


def test_attribute_of_the_users_class_may_be_an_option(app):
    class WithDatabase(Task):
        database = "main"

    task = app.task(base=WithDatabase, database="other")(sample)

    assert task.database == "other"


def test_option_read_early_comes_from_settings_given_until_then(make_app):
    app = make_app()
    task = app.task(sample)
    app.conf.task_acks_late = False

    assert task.acks_late is False


def test_wrong_setting_shows_where_an_option_is_read(make_app):
    task = make_app(task_acks_lat=False).task(sample)

    with pytest.raises(ConfigError, match="task_acks_late"):
        _ = task.acks_late


def test_task_looks_like_its_function(app):
    task = app.task(sample)

    assert task.__name__ == "sample"
    assert task.__doc__ == "Add a little."
    assert task.__module__ == sample.__module__
    assert task.__wrapped__ is sample
    assert task.function is sample


def test_bound_task_hides_its_first_parameter(app):
    @app.task(bind=True)
    def bound(self, x):
        return self.name, x

    assert bound(3) == (bound.name, 3)


def test_defined_at_names_file_and_line(app):
    assert "test_definition.sample (" in app.task(sample).defined_at
    assert "test_definition.py:" in app.task(sample).defined_at


def test_handlers_may_be_options(app):
    heard = []

    @app.task(on_success=lambda self, retval, *rest: heard.append((self.name, retval)))
    def add(x):
        return x

    add.apply((3,))

    assert heard == [(add.name, 3)]


def test_handler_of_one_task_isnt_another_ones(app):
    heard = []
    first = app.task(name="first", on_success=lambda self, *rest: heard.append(self.name))(sample)
    second = app.task(name="second")(sample)

    second.apply((1,))
    assert heard == []
    first.apply((1,))
    assert heard == ["first"]


def test_attribute_that_isnt_there_is_an_attribute_error(app):
    with pytest.raises(AttributeError, match="no attribute 'dely'"):
        _ = app.task(sample).dely


def test_class_without_app_says_so():
    class Alone(Task):
        def run(self):
            return 1

    with pytest.raises(InvalidTaskError, match="Alone belongs to no app; register it"):
        _ = Alone().app
    assert Alone().max_retries == 3
    assert Alone()() == 1


def test_class_without_run_says_so():
    with pytest.raises(NotImplementedError, match="has no run"):
        Task().run()


def test_task_is_copied_and_pickled_by_reference(app, monkeypatch):
    task = app.task(sample)
    monkeypatch.setitem(globals(), "sample", task)
    monkeypatch.setattr(task, "__module__", __name__)
    monkeypatch.setitem(__import__("sys").modules, __name__, _ModuleOf(globals()))

    assert copy.deepcopy(task) is task
    assert pickle.loads(pickle.dumps(task)) is task


class _ModuleOf:
    """This test module, for pickle: pytest doesn't put it into `sys.modules`."""

    def __init__(self, namespace):
        self.__dict__ = namespace


def test_repr_names_task_and_app(app):
    assert repr(app.task(name="proj.add")(sample)) == "<Task proj.add of proj>"
    assert repr(Task()) == "<Task Task>"


@pytest.mark.parametrize("option", ["time_limit", "soft_time_limit", "max_retries"])
@pytest.mark.parametrize("value", ["1m", True, timedelta(minutes=1)])
def test_option_that_must_be_a_number_is_refused_where_it_is_defined(app, option, value):
    with pytest.raises(InvalidTaskError, match=rf"task 't': {option} must be .* or None, not "):
        app.task(name="t", **{option: value})(lambda: None)


def test_annotation_with_a_limit_that_is_no_number_is_refused(make_app):
    app = make_app(task_annotations={"*": {"time_limit": "1m"}})
    app.task(name="t")(lambda: None)

    with pytest.raises(InvalidTaskError, match="time_limit must be seconds or None, not '1m'"):
        app.finalize()
