"""What is stored of a result, and back: its document, and what the document doesn't tell.

A result of rank (0, 1), which nearly all are, is stored as its document and nothing else. Another
rank stands at the document's end, in a field of its own that Celery passes over. What isn't such a
document (another ``result_serializer``) has its state and rank in a key beside it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from umbel.outcomes import StoredResult
from umbel.states import ALL_STATES, PENDING, READY_STATES

#: The rank of a task's first delivery.
FIRST_RANK = (0, 1)
_HEAD = re.compile(rb'\{"status": ?"([^"\\]*)"')
_TAIL = re.compile(rb',"umbel_rank":\[(-?\d+),(-?\d+)\]\}\Z')
#: Longer than any tail.
_TAIL_BYTES = 80
#: Where other serializers than JSON have the state: quotes, lengths and marks stand between.
_FOREIGN_STATE = re.compile(rb"status[^A-Za-z]{1,8}([A-Z_]{4,})")
_STATES: dict[bytes, str] = {state.encode(): str(state) for state in ALL_STATES}
#: How umbel and Celery begin the documents of results that are over, by state.
USUAL_HEADS: dict[str, tuple[bytes, bytes]] = {
    str(state): (b'{"status":"%b"' % state.encode(), b'{"status": "%b"' % state.encode())
    for state in READY_STATES
}


class Record(NamedTuple):
    """What a store writes of a result."""

    value: bytes
    #: For the key beside it; empty: the value tells it all.
    beside: bytes


def write(result: StoredResult) -> Record:
    """Return what to store of `result`."""
    body, state = result.body, result.state.encode(errors="surrogatepass")
    head = _HEAD.match(body)
    if head is None or head[1] != state or not body.endswith(b"}"):
        return Record(body, b"%d %d %b" % (*result.rank, state))
    if result.rank == FIRST_RANK:
        return Record(body, b"")
    return Record(b'%b,"umbel_rank":[%d,%d]}' % (body[:-1], *result.rank), b"")


def read(task_id: str, value: bytes) -> StoredResult | None:
    """Return what a document tells; None: `value` isn't one, what it is stands beside it."""
    head = _HEAD.match(value)
    if head is None:
        return None
    state = _STATES.get(head[1])
    if state is None:
        state = head[1].decode(errors="surrogatepass")
    if value.endswith(b"]}") and (tail := _TAIL.search(value, max(0, len(value) - _TAIL_BYTES))):
        return StoredResult(
            task_id=task_id,
            state=state,
            body=value[: tail.start()] + b"}",
            retries=int(tail[1]),
            token=int(tail[2]),
        )
    return StoredResult(task_id=task_id, state=state, body=value)


def read_beside(task_id: str, value: bytes, beside: bytes | None) -> StoredResult:
    """Return a result whose state and rank stand beside it, unless Celery wrote it."""
    if beside is None:
        found = _FOREIGN_STATE.search(value)
        state = str(PENDING) if found is None else found[1].decode()
        return StoredResult(task_id=task_id, state=state, body=value)
    retries, token, text = beside.split(b" ", 2)
    return StoredResult(
        task_id=task_id,
        state=text.decode(errors="surrogatepass"),
        body=value,
        retries=int(retries),
        token=int(token),
    )
