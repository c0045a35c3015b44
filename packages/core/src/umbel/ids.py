"""Identifiers, made in one place so that tests can drive them.

New ids are random UUIDs, as Celery's. What follows from a task gets an id derived from its
parent's, so that a repeat after a crash is recognised as the same thing.
"""

from __future__ import annotations

import os
from typing import Protocol
from uuid import NAMESPACE_OID, UUID, uuid5


class IdFactory(Protocol):
    """Where umbel gets new ids."""

    def __call__(self) -> str:
        """Return a new, unique id."""


def new_id() -> str:
    """Return a random UUID (version 4) as text.

    Built from the bytes directly: `uuid.uuid4()` costs three times as much.
    """
    raw = bytearray(os.urandom(16))
    raw[6] = (raw[6] & 0x0F) | 0x40
    raw[8] = (raw[8] & 0x3F) | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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
