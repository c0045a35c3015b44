"""Counting the parts of chords in Celery's keys, as Celery's own workers do.

`.s` size, `.j` parts by index, `.d` what was counted, `.t` how many were added, `.c` who sends the
body; the bare key has the shape of a header with groups in it. Celery's workers up to 5.6 know only
the first two and `.t`; so `.j` is what is counted. `.u` and `.n` are ours, for what Celery doesn't
tell: how far a chord has come, and the members of groups that no body waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from math import inf
from typing import Any

import msgspec

from umbel.outcomes import ChordPart, ChordProgress
from umbel.states import FAILURE, PROPAGATE_STATES
from umbel_backend_redis.chord_scripts import CLOSE, GROW, JOIN, OPEN, PROGRESS
from umbel_backend_redis.keys import Keys
from umbel_backend_redis.saved_groups import fold
from umbel_backend_redis.storing import ttl_ms
from umbel_redis_client import Client, raised

#: In one script.
_CHUNK = 500
#: In the claim on a body. The same for all workers of umbel: one that takes a part again after a
#: crash must be able to send the body, and that body's id makes two of them one.
_CLAIM = "umbel"
#: Seconds for which a claim lasts, as Celery has it with its default join timeout, and for which a
#: chord is known to be over.
_CLAIM_S, _OVER_S = 6, 300
#: Milliseconds for which the progress of one that is over is known, at most.
_KNOWN_MS = 86_400_000

#: In the place of the id of a part that can't be read.
_UNKNOWN = "unknown"

#: ``[1, "task id", "STATE", result]``, which is taken as it stands.
_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_MEMBER = re.compile(
    rb"\s*\[\s*1\s*,\s*%b\s*,\s*%b\s*,\s*(.*\S)\s*\]\s*" % (_TEXT, _TEXT), re.DOTALL
)


def open_chord(
    client: Client,
    keys: Keys,
    group_id: str,
    size: int,
    *,
    ttl_s: float | None,
    body: bytes | None,
) -> None:
    """Say how many parts it has, and what it ends with. Raises: ReplyError, ConnectionLostError."""
    given = [] if body is None else [body]
    client.eval(OPEN, keys.chord(group_id), [size, ttl_ms(ttl_s), *given])


def chord_body(client: Client, keys: Keys, group_id: str) -> bytes | None:
    """Return what it ends with, while it is open. Raises: ReplyError, ConnectionLostError."""
    told = keys.chord(group_id).told
    found: bytes | None = client.call(told, "HGET", told, "body")
    return found


def grow_chord(
    client: Client, keys: Keys, group_id: str, task_ids: Sequence[str], *, ttl_s: float | None
) -> bool:
    """Say that it has a part more for each new id; tell whether it is open.

    Raises: ReplyError, ConnectionLostError: unknown whether it was done.
    """
    runs: list[tuple[Sequence[str], Sequence[Any]]] = [
        (keys.chord(group_id), [ttl_ms(ttl_s), *task_ids[start : start + _CHUNK]])
        for start in range(0, len(task_ids) or 1, _CHUNK)
    ]
    return all(raised(client.scripts(GROW, runs)))


def join_chord(
    client: Client, keys: Keys, parts: Iterable[ChordPart], *, in_order: bool
) -> Mapping[str, Sequence[ChordPart]]:
    """Count `parts`; return all those of the chords that are over and for us to go on with.

    Args:
        in_order: Of a chord without any part yet, keep the parts in their order.
    Raises: ReplyError, ConnectionLostError: unknown what was counted.
    """
    groups: dict[str, list[ChordPart]] = {}
    for part in parts:
        groups.setdefault(part.group_id, []).append(part)
    names: list[str] = []
    runs: list[tuple[Sequence[str], Sequence[Any]]] = []
    for group_id, all_parts in groups.items():
        aborts = any(part.aborts and part.result is not None for part in all_parts)
        for start in range(0, len(all_parts), _CHUNK):
            names.append(group_id)
            chunk = all_parts[start : start + _CHUNK]
            is_last = start + _CHUNK >= len(all_parts)
            args = _join_args(chunk, in_order=in_order, aborts=aborts and is_last)
            runs.append((keys.chord(group_id), args))
    found: dict[str, Sequence[ChordPart]] = {}
    for group_id, reply in zip(names, raised(client.scripts(JOIN, runs)), strict=True):
        if reply is not None:
            found[group_id] = _parts(group_id, reply)
    return found


def close_chord(client: Client, keys: Keys, group_ids: Sequence[str]) -> None:
    """Forget the parts, and count no more. Raises: ReplyError, ConnectionLostError."""
    args = [_OVER_S, _KNOWN_MS]
    raised(client.scripts(CLOSE, [(keys.chord(each), args) for each in group_ids]))


def chord_progress(
    client: Client, keys: Keys, group_ids: Sequence[str]
) -> Mapping[str, ChordProgress]:
    """Return how far those have come that are known. Raises: ReplyError, ConnectionLostError."""
    replies = raised(client.scripts(PROGRESS, [(keys.chord(each), []) for each in group_ids]))
    return {
        group_id: ChordProgress(*reply)
        for group_id, reply in zip(group_ids, replies, strict=True)
        if reply is not None
    }


def _join_args(parts: Sequence[ChordPart], *, in_order: bool, aborts: bool) -> list[Any]:
    args: list[Any] = [_CLAIM, _CLAIM_S * 1000, ttl_ms(parts[-1].ttl_s), int(in_order), int(aborts)]
    for part in parts:
        score, place = ("+inf", "inf") if part.index is None else (part.index, part.index)
        failed = int(part.state in PROPAGATE_STATES)
        args += (f"{part.task_id}:{score}", failed, place, _member(part))
    return args


def _member(part: ChordPart) -> bytes:
    if part.result is None:
        return b""
    return b"[1, %b, %b, %b]" % (_encode(part.task_id), _encode(part.state), part.result)


def _encode(text: str) -> bytes:
    return msgspec.json.encode(str(text))


def _parts(group_id: str, reply: list[Any]) -> list[ChordPart]:
    in_order, members, saved = reply
    scores: Iterable[bytes] = repeat(b"inf")
    if in_order:
        members, scores = members[::2], members[1::2]
    pairs = zip(members, scores, strict=False)
    parts = [_part(group_id, member, float(score)) for member, score in pairs]
    return parts if saved is None else fold(group_id, saved, parts)


def _part(group_id: str, member: bytes, score: float) -> ChordPart:
    """Read a part; one that can't be read, as somebody else wrote it, has failed."""
    task_id, state, result = _UNKNOWN, str(FAILURE), b""
    if (found := _MEMBER.fullmatch(member)) is not None:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            task_id = msgspec.json.decode(b'"%b"' % found[1], type=str)
            state = msgspec.json.decode(b'"%b"' % found[2], type=str)
            result = found[3]
    if not result:
        text = f"a part of the chord isn't JSON as umbel and Celery write it: {member!r:.200}"
        fields = {"exc_type": "DecodeError", "exc_message": [text], "exc_module": "umbel.errors"}
        state, result = str(FAILURE), msgspec.json.encode(fields)
    return ChordPart(
        group_id=group_id,
        index=None if score == inf else int(score),
        task_id=task_id,
        state=state,
        result=result,
    )
