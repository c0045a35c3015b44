"""Identifiers, made in one place so that tests can drive them.

New ids are UUIDs, as Celery's, but with the time in front. What follows from a task gets an id derived from its
parent's, so that a repeat after a crash is recognised as the same thing.
"""

from __future__ import annotations

import os
import time
from typing import Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

#: The two fixed bits of a UUID's variant, over each hexadecimal digit.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class IdFactory(Protocol):
    """Where umbel gets new ids."""

    def __call__(self) -> str:
        """Return a new, unique id."""


def new_id() -> str:
    """Return a new UUID as text: its time first, the rest random (version 7, RFC 9562).

    Stores that keep ids sorted, as SQLite does, write a batch of neighbours in one place; random
    ids cost such a store a third more (docs/decisions/0005).
    """
    since_1970 = f"{time.time_ns() // 1_000_000:012x}"
    tail = os.urandom(10).hex()
    variant = _VARIANTS[tail[3]]
    return f"{since_1970[:8]}-{since_1970[8:]}-7{tail[:3]}-{variant}{tail[4:7]}-{tail[7:19]}"


def derived_id(parent: str, edge: str) -> str:
    """Return the id of what follows from `parent` by `edge`; always the same for the same two."""
    try:
        namespace = UUID(parent)
    except ValueError:
        namespace = uuid5(NAMESPACE_OID, parent)
    return str(uuid5(namespace, edge))


def hostname() -> str:
    """Return this machine's host name."""
    import socket  # noqa: PLC0415 - costs start-up time

    return socket.gethostname()


def expand_node_name(pattern: str) -> str:
    """Fill in a node name: ``%h`` host name, ``%n`` its first part, ``%d`` the rest, ``%%``.

    A name without ``@`` gets the host appended, as in Celery.
    """
    host = hostname()
    name, _, domain = host.partition(".")
    if "@" not in pattern:
        pattern = f"{pattern}@%h"
    table = {"%%": "%", "%h": host, "%n": name, "%d": domain}
    out, at = [], 0
    while at < len(pattern):
        pair = pattern[at : at + 2]
        if pair in table:
            out.append(table[pair])
            at += 2
        else:
            out.append(pattern[at])
            at += 1
    return "".join(out)
