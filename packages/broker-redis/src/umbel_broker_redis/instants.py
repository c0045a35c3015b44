"""Which moment a call is about: the caller's, or now by the server's own clock."""

from __future__ import annotations

from umbel_redis_client import Client


def moment(client: Client, now: str) -> int:
    """Return `now` as unix milliseconds; that of a server's clock where it is empty.

    Raises: ReplyError, ConnectionLostError.
    """
    return int(float(now)) if now else int(client.server_time() * 1000)
