"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print one JSON document; what JSON has no form for stands as its text."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False, default=_as_json))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; those of numbers to the right. None stands as ``-``."""
    kept = [list(row) for row in rows]
    texts = [["-" if cell is None else str(cell) for cell in row] for row in kept]
    widths = [max([len(name), *(len(row[at]) for row in texts)]) for at, name in enumerate(columns)]
    right = [
        bool(kept) and all(isinstance(row[at], (int, float, type(None))) for row in kept)
        for at in range(len(columns))
    ]
    click.secho(_line(columns, widths, right), bold=True)
    for row in texts:
        click.echo(_line(row, widths, right))


def seconds(value: float | None) -> str | None:
    """Return a duration as people say it: ``0.4s``, ``12s``, ``3m20s``, ``5h07m``, ``2d03h``."""
    if value is None:
        return None
    if value < 10:
        return f"{value:.1f}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def moment(at: float | None) -> str | None:
    """Return unix seconds as ISO 8601 in UTC, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def shorten(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def printable(text: str) -> str:
    """Return `text` for a terminal: what could steer it stands as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ).rstrip()


def _as_json(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Mapping():
            return dict(value)
        case set() | frozenset() | tuple():
            return list(value)
        case _:
            return str(value)
