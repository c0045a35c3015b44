from __future__ import annotations

import click
import pytest

from umbel import errors
from umbel_cli.catalog import Catalog, Offered
from umbel_cli.exits import ExitCode, exit_code_of
from umbel_cli.groups import RootGroup


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.UmbelError("x"), 1),
        (errors.TaskError("x"), 1),
        (errors.BrokerError("x"), 1),
        (errors.AppLoadError("x"), 3),
        (errors.ConfigError("x"), 4),
        (errors.UnknownPluginError("broker", "x", []), 4),
        (errors.BrokerUnavailableError("x"), 69),
        (errors.BackendUnavailableError("x"), 69),
        (errors.ResultTimeoutError("x"), 75),
    ],
)
def test_each_kind_of_error_has_its_code(error, code):
    assert exit_code_of(error) == code


def test_codes_are_told_apart():
    assert len({int(code) for code in ExitCode}) == len(ExitCode) == 8


@pytest.fixture
def raising(monkeypatch):
    """Run a command that raises what it is given."""
    from click.testing import CliRunner

    def run(error, *args, **options):
        @click.command()
        def boom():
            raise error

        catalog = Catalog(find=list)
        offered = Offered("boom", "", "umbel-cli", lambda: boom)
        monkeypatch.setattr(catalog, "find", lambda name: offered)
        return CliRunner().invoke(RootGroup(catalog), ["boom", *args], prog_name="umbel", **options)

    return run


def test_error_of_umbel_is_one_line(raising):
    result = raising(errors.BrokerUnavailableError("no route to host"))

    assert (result.stderr, result.stdout) == ("Error: no route to host\n", "")
    assert result.exit_code == 69


def test_error_of_umbel_shows_its_origin_when_asked(raising):
    result = raising(errors.ConfigError("wrong"), "--traceback")

    assert "Traceback (most recent call last)" in result.stderr
    assert result.exit_code == 4


def test_error_of_the_system_is_one_line(raising):
    result = raising(PermissionError(13, "Permission denied", "/x.log"))

    assert result.stderr == "Error: [Errno 13] Permission denied: '/x.log'\n"
    assert result.exit_code == 1


def test_fault_of_a_command_is_not_hidden(raising):
    result = raising(ZeroDivisionError("a bug"))

    assert isinstance(result.exception, ZeroDivisionError)


def test_ctrl_c_has_its_code(raising):
    assert raising(KeyboardInterrupt()).exit_code == 130
