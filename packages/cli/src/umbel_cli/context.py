"""What commands of other packages use: decorators that hand them the app or the options."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from umbel_cli.state import CliState, pass_state

if TYPE_CHECKING:
    from umbel import Umbel

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["CliState", "pass_app", "pass_state"]


def pass_app(command: Callable[Concatenate[Umbel, P], R]) -> Callable[P, R]:
    """Hand the app that ``-A`` names to `command` as its first argument."""

    def with_app(*args: P.args, **kwargs: P.kwargs) -> R:
        state = click.get_current_context().ensure_object(CliState)
        return command(state.app(), *args, **kwargs)

    return update_wrapper(with_app, command)
