from __future__ import annotations

import sys
import types

import pytest

from umbel.errors import ConfigError


@pytest.fixture
def limit_of(make_app):
    """Returns the max_retries of task ``proj.mail.send`` under a task_annotations setting."""

    def limit(annotations, name="proj.mail.send"):
        app = make_app(task_annotations=annotations)

        @app.task(name=name, max_retries=1)
        def send():
            return 1

        return app.tasks[name].max_retries

    return limit


def test_exact_name_sets_an_option(limit_of):
    assert limit_of({"proj.mail.send": {"max_retries": 9}}) == 9


def test_other_name_sets_nothing(limit_of):
    assert limit_of({"proj.mail.sent": {"max_retries": 9}}) == 1


def test_glob_sets_an_option(limit_of):
    assert limit_of({"proj.mail.*": {"max_retries": 9}}) == 9


def test_star_sets_an_option_of_all(limit_of):
    assert limit_of({"*": {"max_retries": 9}}) == 9


def test_more_special_key_wins_whatever_the_order(limit_of):
    annotations = {
        "proj.mail.send": {"max_retries": 7},
        "*": {"max_retries": 9},
        "proj.*": {"max_retries": 8},
    }

    assert limit_of(annotations) == 7
    del annotations["proj.mail.send"]
    assert limit_of(annotations) == 8


def test_options_may_be_made_of_the_task(limit_of):
    assert limit_of({"*": lambda task: {"max_retries": len(task.name)}}) == 14


def test_callable_may_have_no_opinion(limit_of):
    assert limit_of(lambda task: None) == 1


def test_callable_stands_for_all(limit_of):
    assert limit_of(lambda task: {"max_retries": 9}) == 9


def test_object_with_annotate_is_asked(limit_of):
    class Annotation:
        def annotate(self, task):
            return {"max_retries": 9}

    assert limit_of([Annotation()]) == 9


def test_later_entry_of_a_list_wins(limit_of):
    assert limit_of([{"*": {"max_retries": 8}}, {"*": {"max_retries": 9}}]) == 9


def test_entry_may_be_a_dotted_path(limit_of, monkeypatch):
    module = types.ModuleType("sample_annotations")
    module.table = {"*": {"max_retries": 9}}
    monkeypatch.setitem(sys.modules, "sample_annotations", module)

    assert limit_of(["sample_annotations.table"]) == 9


@pytest.mark.parametrize("path", ["nowhere.table", "os.zzz", "zzz"])
def test_path_that_leads_nowhere_is_a_config_error(limit_of, path):
    with pytest.raises(ConfigError, match=f"task_annotations: can't import '{path}'"):
        limit_of([path])


def test_unknown_option_is_a_config_error_with_the_near_one(limit_of):
    with pytest.raises(ConfigError, match="no option 'max_retrys'; did you mean 'max_retries'"):
        limit_of({"*": {"max_retrys": 9}})


def test_options_of_a_wrong_form_are_a_config_error(limit_of):
    with pytest.raises(ConfigError, match=r"options for task 'proj\.mail\.send' must be a dict"):
        limit_of({"*": 9})


def test_handler_of_an_annotation_is_called_with_the_task(make_app):
    heard = []

    def on_success(self, retval, task_id, args, kwargs):
        heard.append((self.name, retval))

    app = make_app(task_annotations={"*": {"on_success": on_success}})

    @app.task(name="proj.add")
    def add(x):
        return x

    add.apply((3,))

    assert heard == [("proj.add", 3)]
