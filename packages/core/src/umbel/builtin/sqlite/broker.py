"""The broker in an SQLite file: any number of processes send and receive."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from umbel.builtin.details import write_details
from umbel.builtin.sqlite import forks, inspection, leases, transactions
from umbel.builtin.sqlite.administration import Administration
from umbel.builtin.sqlite.arrivals import Arrivals, Terms, topics
from umbel.builtin.sqlite.errors import Failures
from umbel.builtin.sqlite.leases import Membership
from umbel.builtin.sqlite.once import FullError, KnownError, parcels_of
from umbel.builtin.sqlite.rows import message_row, read_delivery, read_receipt
from umbel.builtin.sqlite.schema import CLAIM_BITS, NOBODY
from umbel.builtin.sqlite.store import Store, write_nothing
from umbel.builtin.sqlite.transactions import NotAllHeldError, Receipt
from umbel.builtin.sqlite.urls import parse_url
from umbel.builtin.sqlite.wakeup import Wakeup
from umbel.clock import Clock
from umbel.errors import AlreadySentError, BrokerError, BrokerUnavailableError
from umbel.ids import new_id
from umbel.interfaces.broker import Capability
from umbel.messages import (
    Burial,
    Delivery,
    Message,
    OnConflict,
)

P = ParamSpec("P")
T = TypeVar("T")

FAILURES: Final = Failures(BrokerError, BrokerUnavailableError)

#: Seconds that one who receives without `join` keeps what it took, after its last `receive`.
ANONYMOUS_LEASE_S: Final = 60.0

#: What an adjustment of the clock may come to between two looks for dead nodes.
_CLOCK_STEP_S: Final = 1.0


class SqliteBroker(Administration):
    """Messages in one file, each in its row from `send` to `ack`."""

    capabilities = frozenset(
        {
            Capability.DELAY,
            Capability.PRIORITY,
            Capability.LEASE,
            Capability.INSPECT,
            Capability.PURGE,
            Capability.DEAD_LETTER,
            Capability.ATOMIC_SETTLE,
            Capability.DURABLE,
            Capability.SHARED,
            Capability.UNIQUE,
            Capability.BOUNDED,
            Capability.PAUSE,
            Capability.DELAYED,
        }
    )

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        store = Store(parse_url(url, options), FAILURES)
        super().__init__(store, Wakeup(store), clock)
        self._member: Membership | None = None
        self._batches = count(1)
        self._backlog = False
        #: Wall time less monotonic time at the last look for dead nodes.
        self._clock_offset = math.inf
        self._wary_until = -math.inf
        self._arrivals = Arrivals(self._store, self._wakeup)
        forks.track(self)

    def send(self, messages: Sequence[Message]) -> None:
        """Store `messages`, all or none; they survive a power cut once this returns."""
        if not messages:
            return
        now = self._clock.time()
        rows = [message_row(message, now) for message in messages]
        queues = {message.queue for message in messages}
        try:
            ports = self._store.write_durably(self._arrivals.send, rows, queues, self._terms(now))
        except FullError as error:
            raise error.told from None
        except BrokerUnavailableError:
            self._arrivals.once.doubt(messages)
            raise
        self._wakeup.ring(ports)
        self._arrivals.note(queues)

    def send_once(
        self, messages: Sequence[Message], *, on_conflict: OnConflict = OnConflict.RETURN
    ) -> Sequence[str]:
        """Store those of `messages` that aren't known yet, in one transaction.

        What was purged, or is with the dead letters, isn't known.
        """
        if not messages:
            return ()
        now = self._clock.time()
        parcels = parcels_of(messages, now)
        try:
            known, queues, ports = self._store.write_durably(
                self._arrivals.send_once, parcels, OnConflict(on_conflict), self._terms(now)
            )
        except KnownError as error:
            raise AlreadySentError(error.ids) from None
        except FullError as error:
            raise error.told from None
        self._arrivals.once.trust(parcels)
        self._wakeup.ring(ports)
        self._arrivals.note(queues)
        return known

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`, waiting at most `wait_s` seconds for the first."""
        names = tuple(dict.fromkeys(queues))
        if not names:
            raise ValueError("receive needs the name of at least one queue")
        if max_messages < 1:
            raise ValueError(f"max_messages={max_messages!r} must be 1 or more")
        return self._wakeup.wait(topics(names), partial(self._look, names, max_messages), wait_s)

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Remove `deliveries`; return those that weren't held any more."""
        return self.settle(deliveries, ())

    def settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        """Send `follow_ups` and ack `deliveries` in one transaction.

        A power cut may undo it as a whole: then the tasks run again.
        """
        if not deliveries and not follow_ups:
            return ()
        terms = self._terms(self._clock.time())
        parcels = parcels_of(follow_ups, terms.now) if follow_ups else []
        receipts = _receipts(delivery.receipt for delivery in deliveries)
        lost: list[int] = []
        try:
            if len(receipts) != len(deliveries):
                raise NotAllHeldError
            ports = self._store.write(
                self._arrivals.settle_all, deliveries, receipts, parcels, terms
            )
        except NotAllHeldError:
            lost, ports = self._store.write(self._arrivals.settle_each, deliveries, parcels, terms)
        if follow_ups:
            self._arrivals.note(message.queue for message in follow_ups)
        self._wakeup.ring(ports)
        return [deliveries[index] for index in lost]

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        """Give `deliveries` back unrun, at their old place, to be received after `delay_s`."""
        if receipts := _receipts(delivery.receipt for delivery in deliveries):
            due_at = self._clock.time() + delay_s if delay_s > 0 else None
            queues = {delivery.queue for delivery in deliveries}
            self._wakeup.ring(self._store.write(self._give_back, receipts, due_at, queues))

    def bury(self, burials: Sequence[Burial]) -> None:
        """Move each delivery to the dead letters; what isn't held any more is passed over."""
        now = self._clock.time()
        rows = [
            (now, _plain(each.reason), str(each.kind), write_details(each), *receipt)
            for each in burials
            if (receipt := read_receipt(each.delivery.receipt)) is not None
        ]
        if rows:
            self._store.write(inspection.bury, rows)

    # -- leases -------------------------------------------------------------------------------

    def join(self, node: str, consumer: str, *, lease_s: float) -> None:
        """Say who receives through this handle."""
        member = Membership(node=node, consumer=consumer, lease_s=lease_s)
        member.number = self._recover(leases.join, member, self._clock.time())
        self._member = member

    def renew(self, node: str, *, lease_s: float) -> bool:
        """Prolong the node's lease. False: it had run out, and what it held was given back."""
        return self._recover(leases.renew, node, lease_s, self._clock.time())

    def held(self, consumer: str) -> Sequence[Delivery]:
        """Return what the file says that `consumer` holds."""
        return [read_delivery(*row) for row in self._store.read(leases.held, consumer)]

    def recover_consumer(
        self, consumer: str, *, struck: Mapping[str, float] = MappingProxyType({})
    ) -> int:
        """Give back all that a dead `consumer` holds; what is `struck` gets a strike and a delay."""
        now = self._clock.time()
        due = [
            (now + delay_s if delay_s > 0 else None, receipt)
            for each, delay_s in struck.items()
            if (receipt := read_receipt(each)) is not None
        ]
        return self._recover(leases.remove_consumer, consumer, due)

    def recover_expired(self) -> int:
        """Give back all that nodes with an expired lease hold, without a strike."""
        now = self._clock.time()
        if self._is_clock_new(now) or not self._store.read(leases.recoverable, now):
            return 0
        return self._recover(leases.recover, now)

    def _is_clock_new(self, now: float) -> bool:
        """Tell whether the clock was set forward less than a lease ago, or the system slept.

        Leases of living nodes seem to have run out then, until they are renewed by the new time.
        """
        lease_s = 0.0 if self._member is None else self._member.lease_s
        monotonic = self._clock.monotonic()
        offset = now - monotonic
        if offset > self._clock_offset + min(_CLOCK_STEP_S, lease_s / 4):
            self._wary_until = monotonic + lease_s
        self._clock_offset = offset
        return monotonic < self._wary_until

    def leave(self, node: str) -> None:
        """End the node's lease and give back all that its consumers still hold."""
        self._recover(leases.remove_node, node)

    # -- dead letters -------------------------------------------------------------------------

    def replay(self, replays: Sequence[tuple[str, Message]]) -> Sequence[str]:
        """Send a message in the place of each dead letter, in one transaction.

        Returns: Receipts of what wasn't there any more.
        """
        if not replays:
            return ()
        now = self._clock.time()
        rows = [(receipt, message.queue, message_row(message, now)) for receipt, message in replays]
        gone, ports = self._store.write_durably(self._arrivals.replay, rows)
        self._wakeup.ring(ports)
        return gone

    # -- the handle ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make a `receive` that waits in another thread return at once, empty."""
        self._wakeup.interrupt()

    def check(self) -> None:
        """Raise BrokerError where the file can't be opened or written."""
        self._store.write(write_nothing)

    def close(self) -> None:
        """Free the connection. Held deliveries stay held until their lease ends."""
        self._wakeup.close()
        self._store.close()

    def before_fork(self) -> None:
        """Nothing: it holds no lock."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """Be somebody else: two processes must not claim in one name."""
        self._member = None

    # -- the work of its transactions ---------------------------------------------------------

    def _terms(self, now: float) -> Terms:
        return Terms(now, self.once_window_s, self.bounds)

    def _look(self, names: tuple[str, ...], limit: int) -> tuple[list[Delivery], float | None]:
        """Take what is there; else say in how many seconds the next message is due."""
        now = self._clock.time()
        if self._backlog and len(names) == 1 and (found := self._claim(names, limit)):
            return found, None
        ready, due_at = self._store.read(transactions.glance, names, now)
        if ready and (found := self._claim(ready, limit)):
            return found, None
        return [], None if due_at is None else due_at - now

    def _claim(self, names: Sequence[str], limit: int) -> list[Delivery]:
        claim, rows, ports = self._store.write(self._take, names, limit)
        self._wakeup.ring(ports)
        # A full batch: the next look needn't ask whether there is more before it takes it.
        self._backlog = len(rows) == limit
        return [read_delivery(claim, *row) for row in rows]

    def _take(
        self, cx: sqlite3.Connection, names: Sequence[str], limit: int
    ) -> tuple[int, list[tuple[Any, ...]], list[int]]:
        now = self._clock.time()  # not before it was our turn: the lease is judged by it
        member = self._member
        if member is None:
            name = f"anonymous-{new_id()}"
            member = self._member = Membership(name, name, ANONYMOUS_LEASE_S, anonymous=True)
        member.number, queues = leases.ensure(cx, member, now)
        claim = NOBODY + (member.number << CLAIM_BITS) + next(self._batches)
        rows = transactions.take(cx, names, limit, claim, now)
        return claim, rows, self._wakeup.listeners(cx, topics(set(queues)))

    def _give_back(
        self,
        cx: sqlite3.Connection,
        receipts: Sequence[Receipt],
        due_at: float | None,
        queues: set[str],
    ) -> list[int]:
        transactions.give_back(cx, receipts, due_at)
        return self._wakeup.listeners(cx, topics(queues))

    def _recover(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], tuple[T, list[str]]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do `work`, then wake who waits for the queues that it gave messages back to."""

        def transaction(cx: sqlite3.Connection) -> tuple[T, list[int]]:
            value, queues = work(cx, *args, **kwargs)
            return value, self._wakeup.listeners(cx, topics(set(queues)))

        value, ports = self._store.write(transaction)
        self._wakeup.ring(ports)
        return value


def _plain(text: str) -> str:
    """Return `text` as SQLite can hold it: without lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _receipts(receipts: Iterable[str]) -> list[Receipt]:
    """Read receipts; what isn't one of ours is left out."""
    read = (read_receipt(receipt) for receipt in receipts)
    return [receipt for receipt in read if receipt is not None]
