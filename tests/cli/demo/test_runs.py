from __future__ import annotations

import json
from pathlib import Path

import pytest

from umbel_cli.demo.runs import RunNotes

FILES = ["a.py", "b.py"]


@pytest.fixture
def notes(own_folder: Path) -> RunNotes:
    return RunNotes(own_folder / "demo")


def test_first_start_begins_a_run(notes):
    run, resumed = notes.resume_or_begin(FILES)

    assert not resumed
    assert notes.read() == run


def test_unfinished_run_goes_on(notes):
    run, _ = notes.resume_or_begin(FILES)

    assert notes.resume_or_begin(FILES) == (run, True)


def test_finished_run_is_followed_by_another(notes):
    run, _ = notes.resume_or_begin(FILES)
    notes.write(run._replace(finished=True))

    other, resumed = notes.resume_or_begin(FILES)

    assert not resumed
    assert other.id != run.id


def test_other_files_are_another_run(notes):
    run, _ = notes.resume_or_begin(FILES)

    other, resumed = notes.resume_or_begin(FILES[:1])

    assert not resumed
    assert other.id != run.id


def test_fresh_begins_again(notes):
    run, _ = notes.resume_or_begin(FILES)

    other, resumed = notes.resume_or_begin(FILES, fresh=True)

    assert not resumed
    assert other.id != run.id


def test_ids_of_tasks_follow_from_the_run_and_the_file(notes):
    run, _ = notes.resume_or_begin(FILES)

    assert run.task_id("a.py") == notes.resume_or_begin(FILES)[0].task_id("a.py")
    assert run.task_id("a.py") != run.task_id("b.py")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}', json.dumps(None)])
def test_unreadable_note_is_no_note(notes, own_folder, text):
    (own_folder / "demo").mkdir()
    (own_folder / "demo/demo.json").write_text(text)

    assert notes.read() is None
    assert not notes.resume_or_begin(FILES)[1]
