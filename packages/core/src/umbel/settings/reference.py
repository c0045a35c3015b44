"""The reference page of all settings, written from the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from umbel.settings.environment import NOT_SETTINGS, NOT_SETTINGS_PREFIXES
from umbel.settings.forms import describe
from umbel.settings.schema import Setting
from umbel.settings.table import SETTINGS

_INTRODUCTION = """\
# Settings

Written from the table in `umbel.settings.table`; `umbel config` shows the values in force and
where each is from.

A setting is given in one of these places. Where several give it, the first one here wins:

1. `app.conf.update(…)` and `app.conf.<name> = …`, the latest one;
2. the app's constructor: `Umbel("proj", task_time_limit=60)`;
3. `app.config_from_object(…)`, the latest one: a module, class, instance or mapping, or the
   dotted name of one. With `namespace="CELERY"`, names are written `CELERY_TASK_TIME_LIMIT`;
4. an environment variable: `UMBEL_TASK_TIME_LIMIT=60`. `UMBEL_TASK_TIME_LIMIT_FILE` names a file
   that holds the value instead. An empty variable counts as not set;
5. `umbel.toml`, in the nearest directory from the working directory upward that has this file or
   a `pyproject.toml`;
6. the table `[tool.umbel]` of the `pyproject.toml` beside it.

Names are Celery's where Celery has the thing. An unknown name, a wrong type, a value out of its
range or two settings that contradict each other stop the program at its start, with all that is
wrong and where it stands.

In environment variables, lists are separated by commas or written as JSON, mappings are JSON,
truth is `true` or `false` (also `1`/`0`, `yes`/`no`, `on`/`off`), and `none` is None. A number of
seconds may be written with a unit everywhere: `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`; in
Python it may be a `timedelta`.
"""

_OTHER_VARIABLES = """\
## Environment variables that are no settings

Any variable that begins with `UMBEL_` and is no setting is an error, except what Kubernetes sets
for a service of that name (`UMBEL_SERVICE_HOST` and the like), and these:
"""


def settings_reference(table: Iterable[Setting] = SETTINGS) -> str:
    """Return the reference page as Markdown.

    Args:
        table: The settings to document, in the order of the page.
    """
    groups: dict[str, list[Setting]] = {}
    for row in table:
        groups.setdefault(row.group, []).append(row)
    parts = [_INTRODUCTION]
    for group, rows in groups.items():
        parts.append(f"## {group.capitalize()}\n")
        parts += [_entry(row) for row in rows]
    parts.append(_other_variables())
    return "\n".join(parts)


def _entry(row: Setting) -> str:
    facts = "; ".join(_facts(row))
    return f"### `{row.name}`\n\n{row.help}\n\n{facts}.\n"


def _facts(row: Setting) -> Iterator[str]:
    yield f"Type: {describe(row.type, row.unit)}"
    yield f"default: {row.default_text or _literal(row.default)}"
    if len(row.choices) > 1:
        yield f"one of {', '.join(_literal(choice) for choice in row.choices)}"
    if row.minimum is not None:
        yield f"at least {row.minimum:g}"
    if row.maximum is not None:
        yield f"at most {row.maximum:g}"
    for alias, meaning in row.aliases:
        yield f"{_literal(alias)} means {_literal(meaning)}"
    if row.celery_default_differs:
        yield f"Celery's default: {row.celery_default_differs}"


def _literal(value: object) -> str:
    """Return `value` as it is written in Python, as code."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value!r}`"


def _other_variables() -> str:
    known = {
        **NOT_SETTINGS,
        **{f"{prefix}…": what for prefix, what in NOT_SETTINGS_PREFIXES.items()},
    }
    lines = "".join(f"- `{name}`: {what}\n" for name, what in known.items())
    return f"{_OTHER_VARIABLES}\n{lines}"
