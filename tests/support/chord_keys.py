"""Chords in Celery's keys, for tests that look at these."""

from __future__ import annotations

from umbel.outcomes import ChordPart


def part(group, index, *, state="SUCCESS", result=b"5", ttl_s=3600.0, **changes):
    """Return the part of a task that is named after its index."""
    task_id = f"task-{index}"
    return ChordPart(
        group_id=group,
        index=index,
        task_id=task_id,
        state=state,
        result=result,
        ttl_s=ttl_s,
        **changes,
    )


def key(group, suffix=""):
    """Return where Celery keeps something of a group."""
    return f"celery-taskset-meta-{group}{suffix}"


def all_keys(server):
    """Return the names of all keys."""
    return sorted(name.decode() for name in server.scan_iter())


def celerys_keys(server):
    """Return all keys but those that Celery knows nothing of."""
    return [name for name in all_keys(server) if not name.endswith((".u", ".n"))]


def tuple_of(name, children=None, parent=None):
    """Return the result tuple of a task, or of a group."""
    return [[name, parent], children]
