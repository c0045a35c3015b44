"""Read ``sqlite://`` URLs and options into the place of a file and how to treat it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from umbel.errors import ConfigError, near_matches

DEFAULT_FOLDER = ".umbel"
DEFAULT_FILE = "umbel.db"
DEFAULT_BUSY_TIMEOUT_S = 30.0
LONGEST_BUSY_TIMEOUT_S = 3600.0

_PARAMETERS = ("synchronous", "busy_timeout_s")
_LEVELS = ("full", "normal")


class Location(msgspec.Struct, frozen=True):
    """Where the file is and how to treat it."""

    #: Absolute path.
    path: str
    #: ``"full"`` or ``"normal"`` for every transaction; None: full for what clients send only.
    synchronous: str | None = None
    #: Seconds to wait for another process's lock.
    busy_timeout_s: float = DEFAULT_BUSY_TIMEOUT_S


def parse_url(url: str, options: Mapping[str, Any] | None = None) -> Location:
    """Return the location that `url` names; its parameters win over `options`.

    ``sqlite://`` is ``./.umbel/umbel.db``, ``sqlite:///data/jobs.db`` is relative to the
    working directory, ``sqlite:////var/lib/jobs.db`` and ``sqlite:///C:/jobs.db`` are absolute.

    Raises: ConfigError: the URL isn't of this form, or a parameter is unknown or wrong.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() != "sqlite":
        raise ConfigError("an SQLite URL begins with 'sqlite://', as in 'sqlite:///data/jobs.db'")
    place, _, query = rest.partition("?")
    settings = {**(options or {}), **dict(parse_qsl(query, keep_blank_values=True))}
    unknown = [name for name in settings if name not in _PARAMETERS]
    if unknown:
        raise ConfigError(_unknown(unknown[0]))
    return Location(
        path=_path(place),
        synchronous=_level(settings.get("synchronous")),
        busy_timeout_s=_timeout(settings.get("busy_timeout_s", DEFAULT_BUSY_TIMEOUT_S)),
    )


def _path(place: str) -> str:
    if place in ("", "/"):
        return str(Path(DEFAULT_FOLDER, DEFAULT_FILE).absolute())
    if not place.startswith("/"):
        # Not repeated in the message: what stands here may be a user and a password.
        raise ConfigError(
            "an SQLite URL has no host: write three slashes before a relative path "
            "('sqlite:///data/jobs.db') and four before an absolute one"
        )
    path = unquote(place[1:])
    if path == ":memory:":
        raise ConfigError("SQLite in memory can't be shared between processes; use 'memory://'")
    if "\0" in path:
        raise ConfigError(f"the path {path!r} of an SQLite URL holds a null character")
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigError(f"the path {path!r} of an SQLite URL: {error}") from error


def _level(value: Any) -> str | None:
    if value is None:
        return None
    level = str(value).lower()
    if level not in _LEVELS:
        raise ConfigError(f"synchronous={value!r} of an SQLite URL must be 'full' or 'normal'")
    return level


def _timeout(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0.0 <= seconds <= LONGEST_BUSY_TIMEOUT_S:
        raise ConfigError(
            f"busy_timeout_s={value!r} of an SQLite URL must be seconds between 0 and "
            f"{LONGEST_BUSY_TIMEOUT_S:g}"
        )
    return seconds


def _unknown(name: str) -> str:
    close = near_matches(name, _PARAMETERS, limit=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_PARAMETERS)}"
    return f"an SQLite URL has no parameter {name!r}; {hint}"
