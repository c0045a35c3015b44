"""What came of tasks whose process died, kept with the coordinator for whoever has them next.

For brokers without leases: the supervisor of a dead process can't settle there what it ran, nor
give it a strike. The broker hands it over again, and who receives it looks its fate up.

The broker may be quicker than the supervisor: then the task runs once more without its last
strike. None is lost: it counts from the next time on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.outcomes import Outcome
from umbel.worker.slot_names import are_by_receipt, slot_name
from umbel.worker.strikes import Attempt, back_off_s

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.messages import Delivery

logger = logging.getLogger("umbel.worker")

_KEPT_S = 7 * 86400.0
#: Deaths that are told of, the last ones: `task_max_deliveries` may be anything.
_MOST_ATTEMPTS = 20


class Fate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one attempt at a task."""

    #: How many times a process died of it.
    strikes: int = 0
    attempts: list[Attempt] = []
    #: What came of it, where it isn't to run again.
    verdict: Outcome | None = None

    def wait_s(self, now: float) -> float:
        """Return in how many seconds it may run again; `now` in unix seconds."""
        if not self.attempts:
            return 0.0
        pause_s = back_off_s(self.strikes - 1)
        # At most the whole pause: another machine's clock may be far ahead.
        return min(max(self.attempts[-1].at + pause_s - now, 0.0), pause_s)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Fate).decode


class Fates:
    """The fates of tasks, by the name of their slot. Thread-safe."""

    def __init__(self, coordinator: Coordinator):
        self._coordinator = coordinator
        #: Whether they can't be looked up: told once.
        self._is_blind = False

    @classmethod
    def beside(cls, broker: Broker, coordinator: Coordinator | None) -> Fates | None:
        """Return those that `broker` needs; None: it has leases, or there is no place for them."""
        if coordinator is None or not coordinator.shared or are_by_receipt(broker):
            return None
        return cls(coordinator)

    def of(self, deliveries: Sequence[Delivery]) -> Mapping[str, Fate]:
        """Return what is known of these, by receipt. Raises nothing.

        Only of what was handed over before: else nothing is known, and nothing is asked.
        """
        keys = {
            each.receipt: _key(slot_name(each.message)) for each in deliveries if each.redelivered
        }
        if not keys:
            return {}
        try:
            found = self._coordinator.get(list(set(keys.values())))
            fates = {key: _read(value) for key, value in found.items()}
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            level = logging.DEBUG if self._is_blind else logging.WARNING
            text = "can't look up what redelivered tasks did to their processes, running them: %s"
            logger.log(level, text, exc)
            self._is_blind = True
            return {}
        self._is_blind = False
        return {receipt: fates[key] for receipt, key in keys.items() if key in fates}

    def strike(self, name: str, attempt: Attempt) -> int:
        """Add a death to what is known of a task; one that is known isn't added again.

        Returns: its strikes. Raises: what the coordinator does.
        """
        key = _key(name)
        known = _read(self._coordinator.get([key]).get(key))
        if attempt in known.attempts:
            return known.strikes
        attempts = [*known.attempts, attempt][-_MOST_ATTEMPTS:]
        strikes = known.strikes + 1
        self._keep(key, Fate(strikes=strikes, attempts=attempts, verdict=known.verdict))
        return strikes

    def judge(self, name: str, outcome: Outcome) -> None:
        """Say what came of a task. Raises: what the coordinator does."""
        self._keep(_key(name), Fate(verdict=outcome))

    def forget(self, names: Sequence[str]) -> None:
        """Drop what is known of these: it is over with them. Raises nothing."""
        if not names:
            return
        try:
            self._coordinator.delete([_key(name) for name in names])
        except Exception as exc:  # noqa: BLE001 - it expires by itself
            logger.debug("can't drop what tasks did to their processes: %s", exc)

    def forget_marked(self, deliveries: Sequence[Delivery]) -> None:
        """Drop what is known of those of `deliveries` that are `marked`. Raises nothing."""
        self.forget([slot_name(each.message) for each in deliveries if each.strikes])

    def _keep(self, key: str, fate: Fate) -> None:
        self._coordinator.put(key, _encode(fate), ttl_s=_KEPT_S)


def marked(deliveries: Sequence[Delivery], fates: Mapping[str, Fate]) -> list[Delivery]:
    """Return `deliveries` with their strikes; one whose fate is known has one at least."""
    return [
        msgspec.structs.replace(each, strikes=max(fates[each.receipt].strikes, each.strikes, 1))
        if each.receipt in fates
        else each
        for each in deliveries
    ]


def _read(value: bytes | None) -> Fate:
    try:
        return Fate() if value is None else _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:  # of another version, or damaged
        logger.warning("can't read what is known of a task that was redelivered: %s", exc)
        return Fate()


def _key(name: str) -> str:
    return f"fate/{name}"
