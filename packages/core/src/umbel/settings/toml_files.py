"""Settings out of ``umbel.toml`` and the ``[tool.umbel]`` table of ``pyproject.toml``.

Only one directory counts: the nearest one, from the working directory upward, that has either
file. Nothing above it is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umbel.settings.layers import Given, Layer, Problem

_OWN, _PROJECT = "umbel.toml", "pyproject.toml"
_TABLE = "[tool.umbel]"


def from_toml(directory: Path) -> list[Layer]:
    """Return what the files give, ``umbel.toml`` first: it wins.

    Args:
        directory: Where to begin.
    """
    for place in (directory, *directory.parents):
        own, project = place / _OWN, place / _PROJECT
        found = [path for path in (own, project) if _is_file(path)]
        if found:
            return [_layer(path) for path in found]
    return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a directory above that we may not look into
        return False


def _layer(path: Path) -> Layer:
    where = f"{path} {_TABLE}" if path.name == _PROJECT else str(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        return Layer(problems=(Problem("settings", f"can't be read: {exc}", where),))
    if path.name == _PROJECT and "umbel" not in text:
        return Layer()
    import tomllib  # noqa: PLC0415 - most processes find no table

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        return Layer(problems=(Problem("settings", f"can't be read: {exc}", where),))
    table = _our_table(data, is_own=path.name == _OWN)
    if not isinstance(table, dict):
        return Layer(problems=(Problem("tool.umbel", "must be a table", where),))
    return Layer(
        {key: Given(value=value, source=where, written=key) for key, value in table.items()}
    )


def _our_table(data: dict[str, Any], *, is_own: bool) -> Any:
    """Return the table of settings; an own file may have it at the top or as in pyproject."""
    tool = data.get("tool", {})
    inner = tool.get("umbel", {}) if isinstance(tool, dict) else {}
    return data if is_own and not (set(data) == {"tool"} and inner) else inner
