"""Settings out of umbel.toml and pyproject.toml."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from umbel.errors import ConfigError
from umbel.settings import Settings


def settings_in(directory: Path) -> Settings:
    return Settings("test", environ={}, directory=directory)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_table_of_pyproject_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pyproject.toml",
        '[project]\nname = "x"\n[tool.umbel]\ntask_default_queue = "mail"\nresult_expires = "1h"\n'
        "[tool.umbel.broker_transport_options]\nretries = 3\n",
    )

    conf = settings_in(tmp_path)

    assert conf.task_default_queue == "mail"
    assert conf.result_expires == 3600.0
    assert conf.broker_transport_options == {"retries": 3}
    assert conf.source_of("task_default_queue") == f"{path} [tool.umbel]"


def test_umbel_toml_wins_over_pyproject_beside_it(tmp_path: Path) -> None:
    own = write(tmp_path / "umbel.toml", 'task_default_queue = "own"\n')
    write(
        tmp_path / "pyproject.toml",
        '[tool.umbel]\ntask_default_queue = "project"\ntimezone = "UTC"\n',
    )

    conf = settings_in(tmp_path)

    assert conf.task_default_queue == "own"
    assert conf.source_of("task_default_queue") == str(own)
    assert conf.source_of("timezone").endswith("pyproject.toml [tool.umbel]")


def test_umbel_toml_may_have_its_settings_as_in_pyproject(tmp_path: Path) -> None:
    write(tmp_path / "umbel.toml", '[tool.umbel]\ntask_default_queue = "own"\n')

    assert settings_in(tmp_path).task_default_queue == "own"


def test_file_is_looked_for_upward(tmp_path: Path) -> None:
    write(tmp_path / "umbel.toml", 'task_default_queue = "above"\n')
    below = tmp_path / "src" / "proj"
    below.mkdir(parents=True)

    assert settings_in(below).task_default_queue == "above"


def test_nearest_project_ends_the_search(tmp_path: Path) -> None:
    write(tmp_path / "umbel.toml", 'task_default_queue = "above"\n')
    member = write(tmp_path / "member" / "pyproject.toml", '[project]\nname = "m"\n').parent

    assert settings_in(member).task_default_queue == "celery"


def test_working_directory_is_where_the_search_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "umbel.toml", 'task_default_queue = "here"\n')
    monkeypatch.chdir(tmp_path)

    assert Settings("test", environ={}).task_default_queue == "here"


@pytest.mark.skipif(os.name == "nt", reason="a directory in use can't be deleted on Windows")
def test_deleted_working_directory_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert Settings("test", environ={}).task_default_queue == "celery"


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("umbel.toml", "task_default_queue = \n", r"settings can't be read: .*line 1"),
        ("pyproject.toml", "[tool.umbel\n", r"settings can't be read: .*line 1"),
        ("pyproject.toml", "[tool]\numbel = 1\n", r"tool\.umbel must be a table"),
        (
            "umbel.toml",
            "task_acks_late = 'yes'\n",
            r"task_acks_late needs true or false, not 'yes'",
        ),
        ("umbel.toml", "task_aks_late = true\n", r"did you mean task_acks_late\?"),
        ("umbel.toml", "[task]\nacks_late = true\n", r"task is no setting"),
    ],
)
def test_mistake_in_a_file_is_an_error_that_names_it(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, text)

    with pytest.raises(ConfigError, match=message) as caught:
        settings_in(tmp_path).finalize()
    assert str(path) in str(caught.value)


def test_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "umbel.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="settings can't be read"):
        settings_in(tmp_path).finalize()


def test_pyproject_of_others_needs_no_toml_parser(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "this is [ no toml")

    assert settings_in(tmp_path).task_default_queue == "celery"
