"""How umbel's Redis plugins talk to Redis: URLs, connections, scripts, Sentinel and Cluster."""

from __future__ import annotations

from umbel_redis_client.addresses import Address, Endpoint, parse_url
from umbel_redis_client.client import Arg, Call, Client, Run, Script
from umbel_redis_client.connection import Connection, pack
from umbel_redis_client.replies import FAILED, ConnectionLostError, Failures, ReplyError, raised
from umbel_redis_client.topology import slot_of

__version__ = "0.1.0"

#: URL schemes of everything that is a Redis.
SCHEMES = (
    "redis",
    "rediss",
    "redis+socket",
    "sentinel",
    "redis+cluster",
    "rediss+cluster",
)

__all__ = [
    "FAILED",
    "SCHEMES",
    "Address",
    "Arg",
    "Call",
    "Client",
    "Connection",
    "ConnectionLostError",
    "Endpoint",
    "Failures",
    "ReplyError",
    "Run",
    "Script",
    "pack",
    "parse_url",
    "raised",
    "slot_of",
]
