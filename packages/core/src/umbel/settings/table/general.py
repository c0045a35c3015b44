"""Settings of the app as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.errors import near_matches
from umbel.settings.schema import Setting

_GROUP = "general"


def _time_zone(name: str) -> str | None:
    if name == "UTC":
        return None
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - most apps stay with UTC

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = available_timezones()
        if not known:
            return "can't be looked up: this machine has no time zones (pip install tzdata)"
        close = near_matches(name, known, limit=1)
        return "is no time zone" + (f"; did you mean {close[0]!r}?" if close else "")
    return None


SETTINGS = (
    Setting(
        name="imports",
        type=Sequence[str],
        default=(),
        help="Modules with tasks, imported when a worker starts.",
        group=_GROUP,
    ),
    Setting(
        name="include",
        type=Sequence[str],
        default=(),
        help="More such modules; also `Umbel(include=…)`.",
        group=_GROUP,
    ),
    Setting(
        name="accept_content",
        type=Sequence[str],
        default=("json",),
        help="Serializers or content types that are decoded; a message in any other is refused.",
        group=_GROUP,
    ),
    Setting(
        name="timezone",
        type=str,
        default="UTC",
        help="The zone of an `eta` or `expires` given without one. Messages always carry UTC.",
        check=_time_zone,
        group=_GROUP,
    ),
    Setting(
        name="enable_utc",
        type=bool,
        default=True,
        help="Times in messages are UTC. Here for Celery's configurations: only true is possible.",
        choices=(True,),
        group=_GROUP,
    ),
)
