from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from umbel_cli.global_options import add_global_options
from umbel_cli.state import CliState, pass_state


@pytest.fixture
def seen(write):
    """A module whose app tells where its broker is."""
    write("proj.py", "from umbel import Umbel\napp = Umbel('proj')\n")
    return "broker_url"


@pytest.mark.parametrize(
    "args",
    [
        ("-A", "proj", "-b", "memory://", "config", "show", "broker_url", "--json"),
        ("config", "-A", "proj", "--json", "show", "-b", "memory://", "broker_url"),
        ("config", "show", "broker_url", "--app", "proj", "--broker", "memory://", "--json"),
        ("--json", "-Aproj", "config", "-bmemory://", "show", "broker_url"),
    ],
)
def test_options_stand_anywhere(invoke, seen, args):
    result = invoke(*args)

    assert (result.stdout, result.exit_code) == ('{"broker_url": "memory://"}\n', 0)


def test_option_further_right_wins(invoke, seen):
    result = invoke("-b", "memory://a", "config", "show", "broker_url", "-b", "memory://b")

    assert "memory://b" in result.stdout


def test_app_comes_from_the_environment(invoke, seen):
    result = invoke("report", "--json", env={"UMBEL_APP": "proj"})

    assert '"app": "proj"' in result.stdout


def test_option_wins_over_the_environment(invoke, seen):
    result = invoke("report", "--json", "-A", "proj", env={"UMBEL_APP": "no_such"})

    assert '"app": "proj"' in result.stdout


def test_workdir_is_gone_to_before_the_app_is_looked_for(umbel, write):
    write("below/proj.py", "from umbel import Umbel\napp = Umbel('proj')\n")

    ended = umbel("config", "show", "broker_url", "--workdir", "below", "-A", "proj")

    assert ended.code == 0


def test_folder_that_is_not_there_is_wrong_usage(invoke):
    result = invoke("plugins", "--workdir", "nowhere")

    assert result.exit_code == 2
    assert "nowhere" in result.stderr


def test_config_names_a_module_with_settings(invoke, write):
    write("proj.py", "from umbel import Umbel\napp = Umbel('proj')\n")
    write("settings.py", "task_default_queue = 'mail'\n")

    result = invoke("config", "show", "--json", "-A", "proj", "--config", "settings")

    assert '"task_default_queue": "mail"' in result.stdout


def test_quiet_leaves_results_alone(invoke, seen):
    result = invoke("config", "show", "-q", "broker_url")

    assert "sqlite" in result.stdout


def test_quiet_keeps_notes_back(invoke):
    assert invoke("config", "show").stderr != ""
    assert invoke("config", "show", "--quiet").stderr == ""


@pytest.mark.parametrize("args, env", [((), {"NO_COLOR": "1"}), (("--no-color",), {})])
def test_colours_can_be_left_out(invoke, args, env):
    assert "\x1b" in invoke("queues", color=True).stdout
    assert "\x1b" not in invoke("queues", *args, env=env, color=True).stdout


def test_version_is_printed(invoke):
    result = invoke("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("umbel ")


def test_option_of_a_command_wins_over_the_global_one():
    @click.command()
    @click.option("-b", "--bare", is_flag=True)
    @pass_state
    def own(state: CliState, bare: bool) -> None:
        click.echo(f"{bare} {state.broker}")

    add_global_options(own)

    assert CliRunner().invoke(own, ["-b", "--broker", "memory://"]).stdout == "True memory://\n"
