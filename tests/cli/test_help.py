from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

_ASK = """\
import sys
sys.argv = ["umbel", "--help"]
from umbel_cli.main import main
try:
    main()
except SystemExit:
    pass
print(*sorted(sys.modules), file=sys.stderr)
"""
COMMANDS = (
    "worker",
    "call",
    "result",
    "revoke",
    "queues",
    "purge",
    "config",
    "plugins",
    "report",
    "completion",
    "demo",
)


def test_help_lists_every_command(invoke):
    shown = invoke("--help").stdout

    for name in COMMANDS:
        assert f"  {name} " in shown


def test_help_names_the_exit_codes(invoke):
    shown = " ".join(invoke("--help").stdout.split())

    assert "3 app can't be loaded" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(invoke, name):
    result = invoke(name, "--help")

    assert result.exit_code == 0
    assert f"umbel {name}" in result.stdout
    assert "Global options" in result.stdout


def test_help_imports_nothing_heavy():
    ended = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=60
    )

    heavy = {"rich", "umbel.worker", "umbel.app", "sqlite3", "asyncio", "multiprocessing", "ssl"}
    assert heavy & set(ended.stderr.split()) == set()


def test_help_is_there_at_once():
    """0.15 s on a machine with nothing else to do; this one may be busy."""
    best = min(_seconds_of_help() for _ in range(5))

    assert best < 0.5


def test_shell_completes_commands_without_importing_them():
    env = {"_UMBEL_COMPLETE": "bash_complete", "COMP_WORDS": "umbel wor", "COMP_CWORD": "1"}

    ended = subprocess.run(
        [sys.executable, "-c", _ASK],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **env},
    )

    assert ended.stdout == "plain,worker\n"
    assert "umbel.worker" not in ended.stderr.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_for_umbel(invoke, shell):
    result = invoke("completion", shell)

    assert result.exit_code == 0
    assert "_UMBEL_COMPLETE" in result.stdout


def _seconds_of_help() -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from umbel_cli.main import main; main()", "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ,
        timeout=60,
    )
    return time.perf_counter() - started


def test_no_command_shows_help(invoke):
    result = invoke()

    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_misspelt_command_is_recognised(invoke):
    result = invoke("wroker")

    assert result.exit_code == 2
    assert "there is no command 'wroker'; did you mean 'worker'?" in result.stderr


def test_misspelt_command_below_a_command_is_recognised(invoke):
    result = invoke("queues", "peak", "celery")

    assert result.exit_code == 2
    assert "did you mean 'peek'?" in result.stderr


def test_unheard_of_command_points_to_the_help(invoke):
    result = invoke("frobnicate")

    assert result.exit_code == 2
    assert "there is no command 'frobnicate'; see umbel --help" in result.stderr


def test_misspelt_option_is_recognised(invoke):
    result = invoke("worker", "--concurency", "2")

    assert result.exit_code == 2
    assert "--concurrency" in result.stderr


def test_misspelt_global_option_after_the_command_is_recognised(invoke):
    result = invoke("plugins", "--jsn")

    assert result.exit_code == 2
    assert "--json" in result.stderr
