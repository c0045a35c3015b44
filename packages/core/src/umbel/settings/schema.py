"""What a setting is: one row of the table that checks, defaults and documentation come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting. A plugin offers its own by the hook `umbel_settings`."""

    #: Lower case, with the group's or the plugin's word in front: ``sqs_wait_s``.
    name: str
    #: A typing form: bool, int, float, str, `Sequence[str]`, `Mapping[str, Any]`,
    #: `Callable[..., Any]`, Any, and unions of them with None. A float in seconds also takes a
    #: timedelta and text such as ``"5m"``, and is read as a float.
    type: Any
    default: Any
    #: One line.
    help: str
    #: What a number counts: ``"seconds"``, ``"bytes"``, ``"tasks"`` … Text may be a ``"URL"``.
    unit: str | None = None
    #: All values that are allowed; empty: any.
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    #: Never shown. A URL needs no flag: its password is masked anyway.
    secret: bool = False
    #: Under which heading it is documented.
    group: str = ""
    #: Celery's default, where ours differs.
    celery_default_differs: str = ""
    #: Other ways to write a value, with what they mean: ``((0, None),)``.
    aliases: tuple[tuple[Any, Any], ...] = ()
    #: Says what is wrong with a value of the right type, or None.
    check: Callable[[Any], str | None] | None = None
    #: Computes the default from the other settings; `default_text` describes it.
    follows: Callable[[Mapping[str, Any]], Any] | None = None
    #: Describes a default that a value can't.
    default_text: str = ""
