from __future__ import annotations

import json

import pytest


@pytest.fixture
def proj(write):
    write(
        "proj.py",
        "from umbel import Umbel\n"
        "app = Umbel('proj', broker='memory://user:hunter2@host/', task_default_queue='mail')\n",
    )
    return "proj"


def test_settings_that_something_sets_are_shown(invoke, proj):
    shown = json.loads(invoke("-A", proj, "config", "show", "--json").stdout)

    assert shown["task_default_queue"] == "mail"
    assert "worker_pool" not in shown


def test_all_settings_are_shown_when_asked_for(invoke, proj):
    shown = json.loads(invoke("-A", proj, "config", "show", "--all", "--json").stdout)

    assert shown["worker_pool"] == "process"


def test_passwords_are_masked(invoke, proj):
    for args in (("config", "show"), ("config", "show", "--all", "--json"), ("report",)):
        result = invoke("-A", proj, *args)

        assert "hunter2" not in result.output
        assert "memory://" in result.output


def test_sources_are_told(invoke, proj):
    result = invoke(
        *("-A", proj, "config", "show", "--source", "--json"),
        *("task_default_queue", "worker_pool", "worker_lease_s", "result_backend"),
        *("--result-backend", "memory://"),
        env={"UMBEL_WORKER_LEASE_S": "7"},
    )

    shown = json.loads(result.stdout)
    assert {name: each["source"] for name, each in shown.items()} == {
        "task_default_queue": "constructor of the app",
        "worker_pool": "default",
        "worker_lease_s": "environment variable UMBEL_WORKER_LEASE_S",
        "result_backend": "command line",
    }


def test_table_has_a_column_for_sources(invoke, proj):
    header, line = invoke(
        "-A", proj, "config", "show", "--source", "task_default_queue"
    ).stdout.splitlines()

    assert header.split() == ["setting", "value", "source"]
    assert line.split()[:2] == ["task_default_queue", "'mail'"]


def test_misspelt_setting_is_recognised(invoke, proj):
    result = invoke("-A", proj, "config", "show", "task_defualt_queue")

    assert result.exit_code == 4
    assert "did you mean 'task_default_queue'?" in result.stderr


def test_schema_describes_every_setting(invoke):
    schema = json.loads(invoke("config", "schema").stdout)

    found = schema["properties"]
    assert found["task_acks_late"] | {"description": ""} == {
        "description": "",
        "type": "boolean",
        "default": True,
    }
    assert {"type": "null"} in found["worker_concurrency"]["anyOf"]
    assert found["worker_concurrency"]["minimum"] == 1
    assert found["imports"]["items"] == {"type": "string"}
    assert set(found) == set(json.loads(invoke("config", "show", "--all", "--json").stdout))


def test_check_of_good_settings_succeeds(invoke, tasks):
    result = invoke("-A", tasks, "config", "check")

    assert result.exit_code == 0
    assert "the settings are well" in result.stderr


def test_check_names_every_mistake_with_its_source(invoke, write):
    write("umbel.toml", "task_acks_lat = true\nworker_lease_s = 'soon'\n")

    result = invoke("config", "check", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 4
    assert document["ok"] is False
    assert {row["setting"] for row in document["problems"]} == {"task_acks_lat", "worker_lease_s"}
    assert all("umbel.toml" in row["source"] for row in document["problems"])
    assert any("did you mean task_acks_late?" in row["problem"] for row in document["problems"])


def test_check_finds_a_url_that_no_plugin_opens(invoke):
    result = invoke("config", "check", "-b", "sqs://")

    assert result.exit_code == 4
    assert 'pip install "umbel[sqs]"' in result.stdout


def test_wrong_settings_stop_every_command_with_their_source(invoke):
    result = invoke("queues", env={"UMBEL_TASK_ACKS_LAT": "1"})

    assert result.exit_code == 4
    assert "UMBEL_TASK_ACKS_LAT" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_can_try_broker_and_backend(invoke):
    result = invoke("config", "check", "--connect", "--json")

    assert (json.loads(result.stdout), result.exit_code) == ({"ok": True, "problems": []}, 0)


def test_check_finds_a_broker_that_cannot_be_used(invoke, write):
    write("no.db", "this is no database, and long enough to be told from one " * 40)

    result = invoke("config", "check", "--connect", "-b", "sqlite:///no.db")

    assert result.exit_code == 1
    assert "no.db" in result.stderr
    assert "Traceback" not in result.stderr
