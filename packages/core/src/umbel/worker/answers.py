"""What a node says of itself: to ``umbel inspect``, and to whoever asks on the control channel.

Message bodies are never decoded for this: names and arguments are shown as their headers have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.control import REVOKED_PREFIX
from umbel.messages import Malformed, Message
from umbel.redaction import mask_url

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator
    from umbel.worker.host import Host
    from umbel.worker.identity import Identity
    from umbel.worker.rate_table import RateTable
    from umbel.worker.views import Held, View

#: So much of a text of a message, and so many entries of a list, are shown.
_LONGEST_TEXT = 1024
_MOST_ENTRIES = 2000


class Answers:
    """Answers questions, on the thread that asks; some of them ask the broker."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        *,
        pool: str,
        queues: Sequence[str],
        view: View,
        rates: RateTable,
        coordinator: Coordinator | None,
    ):
        """Answer for the node of `identity`, which consumes `queues` with `pool`."""
        self._host, self.hostname = host, identity.hostname
        self._pool, self._queues, self._view = pool, list(queues), view
        self._rates, self._coordinator = rates, coordinator
        self._began_at = host.clock.monotonic()
        self.methods: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "ping": lambda _: {"ok": "pong"},
            "active": lambda _: self._described(view.running()),
            "reserved": lambda _: self._described(view.reserved()),
            "scheduled": lambda _: [],
            "stats": lambda _: self._stats(),
            "registered": self._registered,
            "active_queues": lambda _: self._active_queues(),
            "revoked": lambda _: self._revoked(),
            "conf": self._conf,
        }

    def _described(self, held: Iterable[Held]) -> list[dict[str, Any]]:
        now, monotonic = self._host.clock.time(), self._host.clock.monotonic()
        found = []
        for each in held:
            row = {
                **_message(each.message),
                "hostname": self.hostname,
                "time_start": None if each.begun_at is None else now - monotonic + each.begun_at,
                "acknowledged": each.is_acked,
                "worker_pid": each.pid,
            }
            row["delivery_info"] = {**row["delivery_info"], "queue": each.queue}
            row["delivery_info"]["redelivered"] = each.is_redelivered
            found.append(row)
            if len(found) >= _MOST_ENTRIES:
                break
        return found

    def _stats(self) -> dict[str, Any]:
        processes = self._view.processes()
        slots = self._view.slots
        limits = {name: self._rates.limit(name) for name in self._host.tasks}
        return {
            "pid": os.getpid(),
            "uptime": round(self._host.clock.monotonic() - self._began_at, 3),
            "broker": {"url": mask_url(self._host.conf.broker_url)},
            "pool": {
                "implementation": self._pool,
                "max-concurrency": max(len(processes), 1) * slots,
                "processes": [each.pid for each in processes],
                "slots": slots,
            },
            "done": sum(each.done for each in processes),
            "rate_limits": {name: rate for name, rate in limits.items() if rate},
        }

    def _registered(self, arguments: Mapping[str, Any]) -> list[str]:
        wanted = arguments.get("taskinfoitems") or ()
        tasks = self._host.tasks
        return [_with_options(name, tasks[name], wanted) for name in sorted(tasks)]

    def _active_queues(self) -> list[dict[str, Any]]:
        return [{"name": name, "routing_key": name} for name in self._queues]

    def _revoked(self) -> list[str]:
        if self._coordinator is None:
            return []
        found = self._coordinator.scan(REVOKED_PREFIX)
        return sorted(key.removeprefix(REVOKED_PREFIX) for key in found)[:_MOST_ENTRIES]

    def _conf(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        table = self._host.conf.table(with_defaults=bool(arguments.get("with_defaults")))
        # Functions and the like stand as their text.
        plain: dict[str, Any] = msgspec.to_builtins(table, enc_hook=repr, str_keys=True)
        return plain


def _message(message: Message | Malformed) -> dict[str, Any]:
    if isinstance(message, Malformed):
        return {"id": None, "name": None, "args": None, "kwargs": None, "delivery_info": {}}
    headers = message.headers
    return {
        "id": message.id[:_LONGEST_TEXT],
        "name": message.task[:_LONGEST_TEXT],
        "args": _text(headers.get("argsrepr")),
        "kwargs": _text(headers.get("kwargsrepr")),
        "delivery_info": {
            "exchange": message.exchange,
            "routing_key": message.routing_key,
            "priority": message.priority,
        },
    }


def _text(value: Any) -> str | None:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else None


def _with_options(name: str, task: Any, wanted: Iterable[Any]) -> str:
    """Return the name, as ``name [rate_limit=10/s]`` where options are asked for."""
    found = ((key, getattr(task, str(key), None)) for key in wanted)
    shown = " ".join(f"{key}={value}" for key, value in found if value is not None)
    return f"{name} [{shown}]" if shown else name
