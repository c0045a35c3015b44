"""Which tasks were revoked, as this process knows it. The truth is with the coordinator."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from umbel.control import ALONE, REVOKED_PREFIX
from umbel.messages import Malformed
from umbel.stamps import revoked_as
from umbel.worker.errbacks import ERRBACK

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator
    from umbel.messages import Message
    from umbel.requests import Request

logger = logging.getLogger("umbel.worker")


def descends_from(message: Message | Malformed, ids: Collection[str]) -> bool:
    """Tell whether one of the tasks `ids` sent it, or it is a member of one of the groups."""
    if isinstance(message, Malformed) or not isinstance(message.headers, Mapping):
        return False
    headers = message.headers
    parent_id, group_id = headers.get("parent_id"), headers.get("group")
    if isinstance(group_id, str) and group_id in ids:
        return True
    # Who is to hear of the end of a task isn't stopped with it.
    return isinstance(parent_id, str) and parent_id in ids and ERRBACK not in headers


def is_stamped(message: Message | Malformed, ids: Collection[str]) -> bool:
    """Tell whether tasks with one of its stamps were revoked."""
    if isinstance(message, Malformed) or not isinstance(message.headers, Mapping):
        return False
    stamps = message.headers.get("stamps")
    if not stamps or not isinstance(stamps, dict):
        return False
    return any(each in ids for each in revoked_as(stamps))


class Revocations:
    """The ids of revoked tasks and groups; read anew whenever they are said to have changed."""

    def __init__(self, coordinator: Coordinator | None):
        self._coordinator = coordinator
        self._ids: frozenset[str] = frozenset()
        #: Those of them from which nothing may begin any more.
        self._stopped: frozenset[str] = frozenset()
        self._version = -1

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids

    def __bool__(self) -> bool:
        return bool(self._ids)

    def stops(self, task_id: str) -> bool:
        """Tell whether what descends from that task, or group, isn't to begin."""
        return task_id in self._stopped

    def cover(self, request: Request) -> bool:
        """Tell whether a task isn't to begin: it, its group, or what sent it was revoked."""
        if request.id in self._ids:
            return True
        if request.stamps and any(each in self._ids for each in revoked_as(request.stamps)):
            return True
        stopped = self._stopped
        if not stopped:
            return False
        # Who is to hear of the end of a task isn't stopped with it.
        by_parent = request.parent_id in stopped and ERRBACK not in request.headers
        return by_parent or request.group in stopped

    def changed(self) -> None:
        """Have the ids read anew at the next `refresh`, where no board says so."""
        self._version = -1

    def refresh(self, version: int) -> None:
        """Read the ids where `version` isn't the one they were last read at."""
        if version == self._version or self._coordinator is None:
            return
        # Before the look: a change that comes while it lasts asks for another one.
        self._version = version
        try:
            found = self._coordinator.scan(REVOKED_PREFIX)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            self._version = -1
            logger.warning("can't read which tasks were revoked, going by what is known: %s", exc)
            return
        self._ids = frozenset(key.removeprefix(REVOKED_PREFIX) for key in found)
        alone = {
            key.removeprefix(REVOKED_PREFIX)
            for key, value in found.items()
            if value.startswith(ALONE)
        }
        self._stopped = self._ids - alone if alone else self._ids
