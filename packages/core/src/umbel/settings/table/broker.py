"""Settings of the connection to the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.settings.schema import Setting

_GROUP = "broker"

SETTINGS = (
    Setting(
        name="broker_url",
        type=str,
        default="sqlite://",
        help="Where messages are; its scheme says which broker. The default is a file, "
        "`./.umbel/umbel.db`.",
        unit="URL",
        celery_default_differs="`amqp://`",
        group=_GROUP,
    ),
    Setting(
        name="broker_transport_options",
        type=Mapping[str, Any],
        default={},
        help="Options of the broker's plugin, passed on as they are.",
        group=_GROUP,
    ),
    Setting(
        name="broker_connection_retry_on_startup",
        type=bool,
        default=True,
        help="Keep trying when the broker can't be reached as a worker starts; else it ends.",
        group=_GROUP,
    ),
    Setting(
        name="broker_connection_max_retries",
        type=int | None,
        default=None,
        help="How many attempts to reach the broker may fail as a worker starts, before it ends.",
        unit="attempts",
        minimum=1,
        aliases=((0, None),),
        default_text="no limit",
        celery_default_differs="100",
        group=_GROUP,
    ),
)
