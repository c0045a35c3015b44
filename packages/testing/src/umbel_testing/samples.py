"""Messages and results as umbel sends and stores them, for the suites."""

from __future__ import annotations

from typing import Any

from umbel.ids import new_id
from umbel.messages import Message
from umbel.outcomes import StoredResult

#: Headers that only their sender understands; all that JSON can say is among them.
ODD_HEADERS: dict[str, Any] = {
    "x-nothing": None,
    "x-yes": True,
    "x-no": False,
    "x-zero": 0,
    "x-large": 2**53,
    "x-negative": -17,
    "x-fraction": 0.1,
    "x-text": "Ünïcødé ✓ 漢字 \U0001f33f \x00 \t \" \\ '",
    "x-empty": ["", [], {}],
    "x-nested": {"list": [1, [2, [3, {"deep": [None]}]]], "ключ": "значение"},
    "": "a header without a name",
}
BODY = b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def message(queue: str, **changes: Any) -> Message:
    """Return a message such as a client sends to `queue`, with `changes` to its fields."""
    task_id = changes.pop("id", None) or new_id()
    headers = {
        "lang": "py",
        "task": "kit.add",
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "(2, 3)",
        "kwargsrepr": "{}",
        "origin": "gen1@kit",
    }
    fields = {"id": task_id, "task": "kit.add", "queue": queue, "headers": headers, "body": BODY}
    return Message(**{**fields, **changes})


def full_message(queue: str) -> Message:
    """Return a message with something in every field, due long ago."""
    return message(
        queue,
        task="kit.ümläut.задача",
        headers={"task": "kit.ümläut.задача", "id": "0", **ODD_HEADERS},
        body=bytes(range(256)),
        content_type="application/x-kit",
        content_encoding="binary",
        priority=7,
        due_at=1_000_000_000.123456,
        expires_at=4_000_000_000.654321,
        exchange="kit-exchange",
        routing_key="kit.key",
        reply_to="kit-reply",
        delivery_mode=1,
        properties={"app_id": "kit", "odd": ODD_HEADERS},
    )


def result(task_id: str | None = None, **changes: Any) -> StoredResult:
    """Return a final result such as a worker stores, with `changes` to its fields."""
    fields = {"task_id": task_id or new_id(), "state": "SUCCESS", "body": b'{"result": 5}'}
    return StoredResult(**{**fields, **changes})
