from __future__ import annotations

import re

import pytest

_HOOKS = """\
import click
import pluggy

hookimpl = pluggy.HookimplMarker("umbel")


@hookimpl(optionalhook=True)
def umbel_commands():
    return [("greet", "greeting.commands:greet", "Say hello."), shout]


@click.command()
@click.argument("what")
def shout(what):
    "Print WHAT in capitals."
    click.echo(what.upper())
"""
_COMMANDS = """\
import click
from umbel_cli.context import pass_app, pass_state


@click.group()
def greet():
    "Say hello."


@greet.command()
@pass_app
def app(found):
    click.echo(f"hello {found.main}")


@greet.command()
@pass_state
def state(state):
    click.echo(f"json={state.json} app={state.app_path}")
"""


_MARK = "import pluggy\n@pluggy.HookimplMarker('umbel')(optionalhook=True)\n"


@pytest.fixture
def greeting(write, own_folder):
    """An installed plugin with two commands; returns the environment that has it."""
    write("site/greeting/__init__.py", "")
    write("site/greeting/hooks.py", _HOOKS)
    write("site/greeting/commands.py", _COMMANDS)
    install(write, "greeting", "greeting.hooks")
    return {"PYTHONPATH": str(own_folder / "site")}


def install(write, name, module):
    """Make `module` an installed plugin's hooks."""
    info = f"site/{name}-1.0.dist-info"
    write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    write(f"{info}/entry_points.txt", f"[umbel]\n{name} = {module}\n")


def test_commands_of_a_plugin_are_in_the_help(umbel, greeting):
    ended = umbel("--help", env=greeting)

    assert ended.code == 0
    assert re.search(r"greet +Say hello. \[greeting\]", ended.stdout)
    assert re.search(r"shout +Print WHAT in capitals. \[greeting\]", ended.stdout)


def test_lazy_command_of_a_plugin_gets_the_app(umbel, greeting, tasks):
    ended = umbel("greet", "app", "-A", tasks, env=greeting)

    assert (ended.stdout, ended.code) == ("hello tasks\n", 0)


def test_command_of_a_plugin_takes_global_options_anywhere(umbel, greeting):
    ended = umbel("greet", "--json", "state", "-A", "proj", env=greeting)

    assert ended.stdout == "json=True app=proj\n"


def test_ready_made_command_of_a_plugin_runs(umbel, greeting):
    assert umbel("shout", "hey", env=greeting).stdout == "HEY\n"


def test_misspelt_command_of_a_plugin_is_recognised(umbel, greeting):
    ended = umbel("gret", env=greeting)

    assert ended.code == 2
    assert "did you mean 'greet'?" in ended.stderr


@pytest.mark.parametrize(
    "hooks",
    [
        "import missing_library",
        "raise SystemExit(3)",
        "def broken(:",
        _MARK + "def umbel_commands(): raise RuntimeError('no')",
        _MARK + "def umbel_commands(): return [('only a name',)]",
    ],
)
def test_broken_plugin_costs_only_a_line_of_help(umbel, write, greeting, hooks):
    write("site/broken_hooks.py", hooks)
    install(write, "broken", "broken_hooks")

    ended = umbel("--help", env=greeting)

    assert ended.code == 0
    assert "greet" in ended.stdout
    assert "plugin broken can't be loaded" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_broken_plugin_breaks_no_command_of_ours(umbel, write, greeting):
    write("site/broken_hooks.py", "raise RuntimeError('no')")
    install(write, "broken", "broken_hooks")

    assert umbel("config", "--help", env=greeting).code == 0


def test_command_that_two_plugins_offer_names_both(umbel, write, greeting):
    write("site/other_hooks.py", _HOOKS)
    install(write, "other", "other_hooks")

    ended = umbel("shout", "hey", env=greeting)

    assert ended.code == 4
    assert "greeting" in ended.stderr
    assert "other" in ended.stderr


def test_plugin_takes_no_command_of_ours(umbel, write, own_folder):
    write("site/thief.py", _HOOKS.replace('"greet"', '"plugins"'))
    install(write, "thief", "thief")

    ended = umbel("plugins", "--help", env={"PYTHONPATH": str(own_folder / "site")})

    assert ended.code == 0
    assert "Show the plugins" in ended.stdout


def test_command_whose_module_is_missing_says_so(umbel, write, own_folder, greeting):
    (own_folder / "site/greeting/commands.py").unlink()

    ended = umbel("greet", env=greeting)

    assert ended.code == 1
    assert "command 'greet' of plugin greeting can't be loaded" in ended.stderr
    assert "Traceback" not in ended.stderr
