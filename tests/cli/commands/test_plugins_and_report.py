from __future__ import annotations

import json
import platform


def install(write, name, hooks):
    """Install a plugin whose hooks module has the text `hooks`."""
    write(f"site/{name}_hooks.py", hooks)
    info = f"site/umbel_{name}-1.0.dist-info"
    write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: umbel-{name}\nVersion: 1.0\n")
    write(f"{info}/entry_points.txt", f"[umbel]\n{name} = {name}_hooks\n")


def test_plugins_and_their_offers_are_listed(invoke):
    result = invoke("plugins", "--json")

    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert {"memory", "sqlite"} <= set(rows["core"]["offers"]["brokers"])
    assert {"process", "solo", "threads", "asyncio"} <= set(rows["core"]["offers"]["pools"])
    assert "worker" in rows["cli"]["offers"]["commands"]


def test_plugins_are_listed_for_people(invoke):
    shown = invoke("plugins").stdout

    assert "  brokers: memory, sqlite" in shown


def test_plugin_that_cannot_be_loaded_is_named_and_fails_the_command(umbel, write, own_folder):
    install(write, "broken", "import no_such_library\n")

    ended = umbel("plugins", env={"PYTHONPATH": str(own_folder / "site")})

    assert ended.code == 1
    assert "umbel-broken 1.0" in ended.stdout
    assert "no_such_library" in ended.stdout
    assert "brokers: memory, sqlite" in ended.stdout


def test_broken_plugin_is_told_of_once_and_of_no_other_plugin(umbel, write, own_folder):
    install(write, "broken", "import no_such_library\n")

    ended = umbel("plugins", env={"PYTHONPATH": str(own_folder / "site")})

    assert ended.stdout.count("can't be used") == 1


def test_name_that_two_plugins_offer_is_told_of_both(umbel, write, own_folder):
    hooks = "from umbel.hookspecs import hookimpl\n@hookimpl\ndef umbel_brokers(): "
    install(write, "one", hooks + "return {'acme': print}\n")
    install(write, "two", hooks + "return {'acme': print}\n")

    ended = umbel("plugins", "--json", env={"PYTHONPATH": str(own_folder / "site")})

    told = {row["name"] for row in json.loads(ended.stdout) if row["problems"]}
    assert (ended.code, told) == (1, {"one", "two"})


def test_report_has_versions_and_platform(invoke):
    document = json.loads(invoke("report", "--json").stdout)

    assert {"umbel", "click", "msgspec", "pluggy"} <= set(document["versions"])
    assert document["platform"] == platform.platform()


def test_report_has_the_settings_of_the_app(invoke, tasks, write):
    write("umbel.toml", "task_default_queue = 'mail'\n")

    shown = invoke("report", "-A", tasks).stdout

    assert "  task_default_queue: mail\n" in shown


def test_report_is_there_even_if_the_app_is_not(invoke):
    result = invoke("report", "-A", "no_such_module")

    assert result.exit_code == 0
    assert "there is no module 'no_such_module'" in result.stdout
