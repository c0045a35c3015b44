"""Questions to a fleet of workers: who is there, what runs, what waits in their hands.

A question is published on the control channel with a channel to answer on. Each node that it
reaches answers for itself; nobody knows how many there are, so asking takes its whole time
unless it is known who is to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.ids import new_id
from umbel.off_loop import in_thread

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator

#: Where orders and questions are published; workers listen to it.
CHANNEL = "control"
#: Answers go to channels whose names begin with this.
REPLY_PREFIX = "control-reply/"
#: By node name: what it answered; ``{"error": …}`` where it could not.
Answers = dict[str, Any]


class _Reply(msgspec.Struct, frozen=True):
    ticket: str
    hostname: str
    reply: Any


_decode_reply = msgspec.json.Decoder(_Reply).decode


def encode_reply(ticket: str, hostname: str, reply: Any) -> bytes:
    """Return what the node `hostname` publishes to answer the question `ticket`."""
    return msgspec.json.encode(_Reply(ticket, hostname, reply), enc_hook=str)


def ask(
    coordinator: Coordinator,
    method: str,
    arguments: dict[str, Any],
    *,
    destination: Sequence[str] | None,
    timeout_s: float,
) -> Answers:
    """Publish a question, and return what comes within `timeout_s` or until all have answered.

    Raises: BackendUnavailableError: the coordinator can't be reached.
    """
    ticket = new_id()
    channel = f"{REPLY_PREFIX}{ticket}"
    missing = None if destination is None else set(destination)
    found: Answers = {}
    subscription = coordinator.subscribe([channel])  # before anybody can answer
    try:
        order = {
            "method": method,
            "arguments": arguments,
            "destination": None if destination is None else list(destination),
            "reply_to": channel,
            "ticket": ticket,
        }
        coordinator.publish(CHANNEL, msgspec.json.encode(order))
        ends_at = time.monotonic() + timeout_s
        while (missing is None or missing) and (left_s := ends_at - time.monotonic()) > 0:
            for _, payload in subscription.poll(timeout_s=left_s):
                reply = _read(payload, ticket)
                if reply is not None and (destination is None or reply.hostname in destination):
                    found[reply.hostname] = reply.reply
                    if missing is not None:
                        missing.discard(reply.hostname)
    finally:
        subscription.close()
    return dict(sorted(found.items()))


def _read(payload: bytes, ticket: str) -> _Reply | None:
    """Return an answer to this question; None: it is something else."""
    try:
        reply = _decode_reply(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return reply if reply.ticket == ticket else None


class Inspect:
    """Asks the workers of an app. Each method returns answers by node name; None: nobody's.

    A node that can't answer is there with ``{"error": "why"}``. What ``aping`` is to ``ping``,
    `acall` is to all others.
    """

    def __init__(
        self,
        coordinator: Callable[[str], Coordinator],
        destination: Sequence[str] | None = None,
        timeout: float = 1.0,
    ):
        """`app.control.inspect()` makes these.

        Args:
            coordinator: Returns the app's, or raises for what it is needed.
            destination: Node names; None: all there are.
            timeout: Seconds to wait for answers.
        """
        self._coordinator = coordinator
        self._destination = [destination] if isinstance(destination, str) else destination
        self._timeout_s = timeout

    def call(self, method: str, **arguments: Any) -> Answers | None:
        """Ask any question by its name.

        Raises: ConfigError: the app has no coordinator. BackendUnavailableError.
        """
        found = ask(
            self._coordinator(f"{method}()"),
            method,
            arguments,
            destination=self._destination,
            timeout_s=self._timeout_s,
        )
        return found or None

    async def acall(self, method: str, **arguments: Any) -> Answers | None:
        """Ask any question by its name, without blocking the event loop. Raises: as `call`."""
        return await in_thread(self.call, method, **arguments)

    def ping(self) -> Answers | None:
        """Ask who is there: ``{"ok": "pong"}``."""
        return self.call("ping")

    async def aping(self) -> Answers | None:
        """Ask who is there, without blocking the event loop."""
        return await self.acall("ping")

    def active(self) -> Answers | None:
        """Return what runs: id, name, args and kwargs as text, time_start, worker_pid …"""
        return self.call("active")

    def reserved(self) -> Answers | None:
        """Return what nodes hold and haven't started: given back at once if it must wait."""
        return self.call("reserved")

    def scheduled(self) -> Answers | None:
        """Return empty lists: what is to run later waits in the broker (``umbel queues``)."""
        return self.call("scheduled")

    def stats(self) -> Answers | None:
        """Return the nodes' processes, counts and rate limits."""
        return self.call("stats")

    def registered(self, *taskinfoitems: str) -> Answers | None:
        """Return the names of the tasks that each node knows, with the options asked for."""
        return self.call("registered", taskinfoitems=list(taskinfoitems))

    def active_queues(self) -> Answers | None:
        """Return the queues that each node consumes."""
        return self.call("active_queues")

    def revoked(self) -> Answers | None:
        """Return the ids of revoked tasks, as the nodes know them."""
        return self.call("revoked")

    def conf(self, with_defaults: bool = False) -> Answers | None:
        """Return the nodes' settings, passwords and secrets masked."""
        return self.call("conf", with_defaults=with_defaults)
