"""Names of keys and channels: Celery's, and our own beside them."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Celery sets a prefix of results apart from the key unless it ends in one of these.
_SEPARATORS = ":_-."


class ChordKeys(NamedTuple):
    """The keys of one chord, in the order in which scripts take them."""

    #: How many parts it has.
    size: str
    #: Finished parts, in order.
    joined: str
    #: Parts that were counted.
    done: str
    #: How many parts were added since.
    added: str
    #: Who sends the body.
    claim: str
    #: The group, where it was saved.
    group: str
    #: Ours, a hash: how far it has come, and whether it is over.
    told: str
    #: Ours, a set: what else counts once.
    once: str


class Keys:
    """Names under one prefix.

    Args:
        prefix: ``global_keyprefix``.
        is_cluster: The keys of a chord need to be in one slot. Celery knows no Cluster, and its
            keys wouldn't be.
    """

    def __init__(self, prefix: str, *, is_cluster: bool) -> None:
        if prefix and prefix[-1] not in _SEPARATORS:
            prefix += "_"
        self.prefix = prefix
        #: Before a task's id: its result, and the channel that tells of it.
        self.result = f"{prefix}celery-task-meta-"
        self._group = f"{prefix}celery-taskset-meta-"
        self._is_cluster = is_cluster

    def chord(self, group_id: str) -> ChordKeys:
        """Return the keys of the chord whose header is `group_id`."""
        key = f"{self._group}{{{group_id}}}" if self._is_cluster else f"{self._group}{group_id}"
        return ChordKeys(
            size=f"{key}.s",
            joined=f"{key}.j",
            done=f"{key}.d",
            added=f"{key}.t",
            claim=f"{key}.c",
            group=key,
            told=f"{key}.u",
            once=f"{key}.n",
        )


#: A key with a hash tag of its own, from a prefix or a task's id.
_TAGGED = re.compile(r"[^{]*\{[^}]+\}")


def rank_key(result_key: str) -> str:
    """Return where state and rank stand of a result that doesn't tell them itself."""
    tagged = result_key if _TAGGED.match(result_key) else f"{{{result_key}}}"
    return f"umbel:{tagged}:rank"
