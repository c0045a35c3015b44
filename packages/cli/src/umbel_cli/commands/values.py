"""Types of option values that several commands take."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from umbel.clock import parse_iso, to_datetime
from umbel.errors import ConfigError
from umbel.rates import parse_rate

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer versions

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


class NameList(ParamType):
    """Names between commas: ``a,b``."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split `value`; empty parts fall away."""
        parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
        names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if not names:
            self.fail(f"{value!r} holds no name", param, ctx)
        return names


class JsonOf(ParamType):
    """JSON text of one kind of value."""

    name = "json"

    def __init__(self, kind: type, example: str) -> None:
        self._kind, self._example = kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse `value`, which must be of the kind."""
        if isinstance(value, self._kind):
            return value
        try:
            parsed = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} isn't JSON ({error}); write it like {self._example}", param, ctx)
        if not isinstance(parsed, self._kind):
            self.fail(f"{value!r} must be like {self._example}", param, ctx)
        return parsed


class Moment(ParamType):
    """An ISO 8601 time; without offset it is UTC, as in messages."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Parse `value` into an aware datetime."""
        if isinstance(value, datetime):
            return value
        try:
            return to_datetime(parse_iso(value))
        except ValueError:
            self.fail(f"{value!r} isn't ISO 8601; write it like 2031-05-06T07:08:09", param, ctx)


class SecondsOrMoment(Moment):
    """A number of seconds from now, or an ISO 8601 time."""

    name = "seconds|time"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | datetime:
        """Parse `value`."""
        try:
            return float(value)
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)


class Age(Moment):
    """How long ago: seconds, or with a unit (``90``, ``10m``, ``2h``, ``3d``); or an ISO time."""

    name = "age|time"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | datetime:
        """Parse `value` into seconds before now, or a time."""
        if isinstance(value, (int, float)):
            return value
        if found := _AGE.fullmatch(str(value).strip()):
            return float(found[1]) * _SECONDS[found[2] or "s"]
        try:
            return to_datetime(parse_iso(str(value)))
        except ValueError:
            self.fail(
                f"{value!r} isn't an age; write it like 90s, 10m, 2h or 3d, or as a time like "
                "2031-05-06T07:08:09",
                param,
                ctx,
            )


class Rate(ParamType):
    """So many in a time: ``10/s``, ``100/m``, ``5/h``."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check `value`."""
        try:
            parse_rate(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def json_or_text(value: str) -> Any:
    """Read `value` as JSON where it is, else as the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def flatten(groups: Sequence[Sequence[str]]) -> list[str]:
    """Join the values of an option that may be given several times."""
    return list(dict.fromkeys(name for group in groups for name in group))
