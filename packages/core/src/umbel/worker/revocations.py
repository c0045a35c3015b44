"""Which tasks were revoked, as this process knows it. The truth is with the coordinator."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator

logger = logging.getLogger("umbel.worker")

#: Keys of revoked tasks; the value is the reason.
REVOKED_PREFIX = "revoked/"


class Revocations:
    """The ids of revoked tasks; read anew whenever they are said to have changed."""

    def __init__(self, coordinator: Coordinator | None):
        self._coordinator = coordinator
        self._ids: frozenset[str] = frozenset()
        self._version = -1

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids

    def __bool__(self) -> bool:
        return bool(self._ids)

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
