"""What this package offers. Every process of every user loads it: no Redis before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.clock import Clock
from umbel.hookspecs import hookimpl
from umbel.interfaces.backend import Backend, BackendFactory
from umbel.interfaces.coordinator import Coordinator, CoordinatorFactory

#: As in `umbel_redis_client.SCHEMES`; importing that costs start-up time.
SCHEMES = (
    "redis",
    "rediss",
    "redis+socket",
    "sentinel",
    "redis+cluster",
    "rediss+cluster",
)


@hookimpl
def umbel_backends() -> Mapping[str, BackendFactory]:
    """Offer results on Redis."""
    return dict.fromkeys(SCHEMES, _backend)


@hookimpl
def umbel_coordinators() -> Mapping[str, CoordinatorFactory]:
    """Offer coordination through Redis."""
    return dict.fromkeys(SCHEMES, _coordinator)


# Imported where first needed: ssl and hiredis cost start-up time.


def _backend(url: str, *, options: Mapping[str, Any], clock: Clock) -> Backend:
    from umbel_backend_redis.backend import RedisBackend  # noqa: PLC0415 - see above

    return RedisBackend(url, options=options, clock=clock)


def _coordinator(url: str, *, options: Mapping[str, Any], clock: Clock) -> Coordinator:
    from umbel_backend_redis.coordinator import RedisCoordinator  # noqa: PLC0415 - see above

    return RedisCoordinator(url, options=options, clock=clock)
