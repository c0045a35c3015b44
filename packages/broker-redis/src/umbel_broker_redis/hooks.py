"""What this package offers to umbel. Light: the broker is imported when its scheme is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from umbel.hookspecs import hookimpl

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.broker import Broker, BrokerFactory

#: As `umbel_redis_client.SCHEMES`, which isn't imported before it is needed.
SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "redis+cluster", "rediss+cluster")


def _open(url: str, *, options: Mapping[str, Any], clock: Clock) -> Broker:
    from umbel_broker_redis.broker import RedisBroker  # noqa: PLC0415 - loaded when it is used

    return RedisBroker(url, options=options, clock=clock)


@hookimpl
def umbel_brokers() -> Mapping[str, BrokerFactory]:
    """Offer the Redis broker under all URL schemes of a Redis."""
    return dict.fromkeys(SCHEMES, _open)
