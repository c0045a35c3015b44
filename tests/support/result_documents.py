"""Results as workers of umbel and of Celery write them."""

from __future__ import annotations

import json
from typing import Any

from umbel.ids import new_id
from umbel.outcomes import StoredResult

#: The fields of a document between its state and its task, as each of the two writes them.
UMBEL = (
    b'{"status":"%b","result":%b,"traceback":null,"children":[],"date_done":null,"task_id":"%b"}'
)
CELERY = (
    b'{"status": "%b", "result": %b, "traceback": null, "children": [], '
    b'"date_done": "2026-11-22T11:57:08.132389+00:00", "task_id": "%b"}'
)


def document(
    task_id: str, state: str = "SUCCESS", result: bytes = b"5", *, form: bytes = UMBEL
) -> bytes:
    """Return the document of a result."""
    shown = json.dumps(state, ensure_ascii=False)[1:-1].encode()
    return form % (shown, result, task_id.encode())


def final(task_id: str | None = None, **changes: Any) -> StoredResult:
    """Return a result with its document, with `changes` to its fields."""
    task_id = task_id or new_id()
    state = changes.pop("state", "SUCCESS")
    body = changes.pop("body", None) or document(task_id, state, changes.pop("result", b"5"))
    return StoredResult(task_id=task_id, state=state, body=body, **changes)
