"""Who consumes: the node, and the process of it."""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who consumes."""

    #: Unique id of the node, new at each start.
    node: str
    #: Unique id of the process.
    consumer: str
    #: The node's name for people, ``worker@host``.
    hostname: str
    lease_s: float
