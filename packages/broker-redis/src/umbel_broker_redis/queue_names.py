"""Which queues there are: those that umbel has used, and those that Celery has bound."""

from __future__ import annotations

import re

from umbel_broker_redis.keys import SEPARATOR, Keys
from umbel_redis_client import Call, Client, pack

#: What a pattern of SCAN takes for more than itself.
_GLOB = re.compile(r"([\\*?\[\]])")
#: Queues that Celery binds for remote control and events; no task goes through them.
_CONTROL_END = ".pidbox"
_EVENTS_START = "celeryev."


def used_queues(client: Client, keys: Keys) -> list[str]:
    """Return the queues that senders or receivers of umbel's have used, sorted.

    Raises: ReplyError, ConnectionLostError.
    """
    return sorted(_texts(client.call(keys.queues, "SMEMBERS", keys.queues)))


def bound_queues(client: Client, keys: Keys) -> set[str]:
    """Return the queues that kombu's bindings name; goes through all keys of the database.

    Raises: ReplyError, ConnectionLostError.
    """
    # Only a scan knows them: kombu keeps a set for each exchange, and no list of exchanges.
    pattern = _GLOB.sub(r"\\\1", keys.binding("")[0]) + "*"
    found = client.scan(pattern)
    replies = client.pipeline([Call(key, pack(("SMEMBERS", key))) for key in found])
    # What is no set (WRONGTYPE) isn't kombu's.
    members = [each for reply in replies if isinstance(reply, list) for each in reply]
    names = {text.rpartition(SEPARATOR)[2] for text in _texts(members)}
    return {name for name in names if name and not _is_control(name)}


def _texts(members: list[bytes]) -> list[str]:
    texts = []
    for member in members:
        try:
            texts.append(member.decode())
        except UnicodeDecodeError:  # no name that could be asked for
            continue
    return texts


def _is_control(name: str) -> bool:
    return name.endswith(_CONTROL_END) or name.startswith(_EVENTS_START)
