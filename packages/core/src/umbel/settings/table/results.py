"""Settings of results and of the coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.settings.schema import Setting

_GROUP = "results"
#: Brokers that are a backend too, without a server of their own.
_EMBEDDED = ("sqlite://", "memory://")


def _as_broker(values: Mapping[str, Any]) -> str | None:
    url: str = values["broker_url"]
    return url if url.startswith(_EMBEDDED) else None


SETTINGS = (
    Setting(
        name="result_backend",
        type=str | None,
        default=None,
        help="Where results are; its scheme says which backend. None keeps no results.",
        unit="URL",
        aliases=(("disabled", None), ("disabled://", None)),
        follows=_as_broker,
        default_text="as `broker_url` where that is embedded (`sqlite://`, `memory://`), else None",
        celery_default_differs="None",
        group=_GROUP,
    ),
    Setting(
        name="result_backend_transport_options",
        type=Mapping[str, Any],
        default={},
        help="Options of the backend's plugin, passed on as they are.",
        group=_GROUP,
    ),
    Setting(
        name="coordinator_url",
        type=str | None,
        default=None,
        help="Where the fleet's shared state is: revokes, limits, leases.",
        unit="URL",
        default_text="as `result_backend` where that offers one, else as `broker_url`",
        group=_GROUP,
    ),
    Setting(
        name="result_allowed_exceptions",
        type=Sequence[str] | None,
        default=None,
        help="Exception classes, as dotted names or patterns such as `proj.*`, that a failed "
        "task's error may be rebuilt as, besides Python's own and umbel's. Nothing is imported "
        "for it: others become `RemoteTaskError`.",
        default_text="all that are imported already",
        group=_GROUP,
    ),
    Setting(
        name="result_expires",
        type=float | None,
        default=86400.0,
        help="How long a result is kept; 0 or None keeps it for ever.",
        unit="seconds",
        minimum=0.001,
        aliases=((0.0, None),),
        group=_GROUP,
    ),
    Setting(
        name="result_serializer",
        type=str,
        default="json",
        help="How return values are encoded.",
        group=_GROUP,
    ),
    Setting(
        name="result_max_bytes",
        type=int,
        default=16 * 1024 * 1024,
        help="A task that returns more than this, encoded, has failed, with `ResultTooLargeError`.",
        unit="bytes",
        minimum=1024,
        group=_GROUP,
    ),
    Setting(
        name="result_extended",
        type=bool,
        default=True,
        help="Store the task's name, arguments, worker, retries and queue with its result.",
        celery_default_differs="false",
        group=_GROUP,
    ),
)
