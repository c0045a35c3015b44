"""The broker on a Redis: kombu's lists, and beside them what umbel keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from umbel.clock import Clock
from umbel.errors import ConfigError
from umbel.ids import new_id
from umbel.interfaces.broker import Capability
from umbel.messages import Burial, Delivery, Message, OnConflict
from umbel_broker_redis.claims import claimed_field
from umbel_broker_redis.consumed import Consumed
from umbel_broker_redis.deliveries import delivery_of
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import STEPS, Lane
from umbel_broker_redis.leases import Leases, fields_of
from umbel_broker_redis.manageable import Manageable
from umbel_broker_redis.next_step import Step
from umbel_broker_redis.receiving import ABOUT_TO_WAIT, Fetcher, Look, LookFor
from umbel_broker_redis.requests import Terms
from umbel_broker_redis.sending import Sender
from umbel_broker_redis.settling import Settler
from umbel_broker_redis.taken import Taken
from umbel_broker_redis.waiting import Watch
from umbel_redis_client import FAILED, Call, parse_url, raised

#: Options that are the broker's own.
_OWN_OPTIONS: Final = frozenset({"priority_order", "priority_steps", "queue_order_strategy"})

#: Seconds that one who receives without `join` keeps what it took, after its last `receive`.
ANONYMOUS_LEASE_S: Final = 60.0
#: Part of a lease after which a consumer looks whether its node still has one.
_ENSURE_PART: Final = 0.5


class RedisBroker(Manageable):
    """Messages in the lists of a Redis, held in hashes from `receive` to `ack`."""

    capabilities = frozenset(
        {
            Capability.BOUNDED,
            Capability.DEAD_LETTER,
            Capability.DELAY,
            Capability.DELAYED,
            Capability.DURABLE,
            Capability.INSPECT,
            Capability.LEASE,
            Capability.PAUSE,
            Capability.PRIORITY,
            Capability.PURGE,
            Capability.SHARED,
            Capability.UNIQUE,
        }
    )

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        address = parse_url(url, options, ignored=_OWN_OPTIONS)
        given = {**options, **dict(parse_qsl(urlsplit(url).query))}
        super().__init__(address, Codec(celery_priorities=_keeps_celerys_order(given)), clock)
        keys, codec = self._keys, self._codec
        mark = os.urandom(4).hex()
        self._sender = Sender(self._client, keys, codec)
        self._fetcher = Fetcher(self._client, codec, mark)
        self._settler = Settler(self._client, keys)
        self._leases = Leases(self._client, keys, codec, self._settler)
        self._watch = Watch(self._client, keys)
        self._node = self._consumer = f"anonymous-{new_id()}"
        self._lease_s = ANONYMOUS_LEASE_S
        self._has_joined = False
        #: By the clock's monotonic time: when this consumer looks for its node's lease again.
        self._ensure_at = 0.0
        self._consumed = Consumed(self._client, keys)
        #: What was asked for last.
        self._asked: tuple[tuple[str, ...], tuple[Lane, ...]] = (), ()
        self._taken = Taken()

    # -- sending ------------------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        """Store `messages`; in a Cluster, all or none of those of a queue and priority."""
        if not messages:
            return
        at = self._clock.time()
        try:
            self._sender.send(messages, at=at, now=self._now(), bounds=self.bounds)
        except FAILED as exc:
            raise self._failures.told(exc) from exc

    def send_once(
        self, messages: Sequence[Message], *, on_conflict: OnConflict = OnConflict.RETURN
    ) -> Sequence[str]:
        """Store those of `messages` that aren't known yet, in one script."""
        if not messages:
            return ()
        terms = Terms(
            now=self._now(),
            on_conflict=OnConflict(on_conflict),
            bounds=self.bounds,
            window_s=self.once_window_s,
            replaceable=True,
        )
        return self._do(self._sender.send_once, messages, at=self._clock.time(), terms=terms)

    # -- receiving ----------------------------------------------------------------------------

    def receive(
        self, queues: Sequence[str], *, max_messages: int, wait_s: float
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`, waiting at most `wait_s` seconds for the first."""
        if not queues:
            raise ValueError("receive needs the name of at least one queue")
        if max_messages < 1:
            raise ValueError(f"max_messages={max_messages!r} must be 1 or more")
        lanes = self._lanes_of(queues)
        try:
            self._get_ready(queues)
            if wait_s <= 0:
                return self._watch.glance(partial(self._glance, lanes, max_messages))
            look = partial(self._look_along, lanes, max_messages)
            return self._watch.wait(lanes, self._consumer, look, self._deliver, wait_s)
        except FAILED as exc:
            self._be_unsure_of(lanes)
            raise self._failures.told(exc) from exc

    def _lanes_of(self, queues: Sequence[str]) -> tuple[Lane, ...]:
        """Return the lanes of `queues`, the same tuple for those of the last time."""
        asked, lanes = self._asked
        if asked != tuple(queues):
            names = dict.fromkeys(queues)
            lanes = tuple(self._keys.lane(queue, step) for queue in names for step in STEPS)
            self._asked = tuple(queues), lanes
        return lanes

    def _get_ready(self, queues: Sequence[str]) -> None:
        """See to it that others know who receives, and from where."""
        self._ensure_lease()
        self._consumed.tell(queues)

    def _be_unsure_of(self, lanes: Sequence[Lane]) -> None:
        """Note that something may have been handed out in vain."""
        self._watch.doubt()
        self._ensure_at = 0.0  # a server that was started anew knows nothing of us
        self._consumed.forget()
        self._taken.doubt(lanes)

    def _look_along(
        self,
        lanes: Sequence[Lane],
        limit: int,
        along: Sequence[Call],
        takes: bool,
    ) -> Look:
        return self._look(lanes, limit if takes else 0, along)

    def _glance(self, lanes: Sequence[Lane], limit: int, claims: bool) -> Look:
        return self._look(lanes, limit, claims=claims)

    def _look(
        self,
        lanes: Sequence[Lane],
        limit: int,
        along: Sequence[Call] | None = None,
        *,
        claims: bool = True,
    ) -> Look:
        delivered = self._taken.delivered(lanes) if claims else []
        look = self._fetcher.fetch(
            lanes,
            limit,
            consumer=self._consumer,
            node=self._node,
            now=self._now(),
            along=along,
            delivered=delivered,
            claims=claims,
        )
        self._taken.note(look, delivered)
        return look

    def _deliver(self, lane: Lane, entry: bytes) -> Delivery:
        """Make a delivery of what was claimed; later looks are told that it was delivered."""
        field = claimed_field(entry)
        self._taken.note_claimed(lane, field)
        return delivery_of(entry, field, lane, self._consumer, self._codec)

    def _ensure_lease(self) -> None:
        """See to it that there is a lease to hold messages under, now and then."""
        monotonic = self._clock.monotonic()
        if monotonic >= self._ensure_at:
            joined = self._has_joined
            # Of a node that was taken over, its supervisor learns from its own next `renew`.
            self._leases.renew(
                self._node, self._lease_s, now=self._now(), keeps=joined, helps=joined
            )
            self._ensure_at = monotonic + self._lease_s * _ENSURE_PART

    # -- settling -----------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Remove `deliveries`; return those that weren't held any more."""
        if not deliveries:
            return ()
        lost = self._do(self._settler.ack, deliveries, window_s=self.once_window_s)
        self._taken.settled(deliveries)
        return lost

    def settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        """Send `follow_ups`, each once, and ack `deliveries`: one script, but for a Cluster.

        There the follow-ups go first: a crash in between repeats them, and they are recognised.
        """
        if not follow_ups:
            return self.ack(deliveries)
        lost = self._do(
            self._sender.settle,
            deliveries,
            follow_ups,
            at=self._clock.time(),
            now=self._now(),
            window_s=self.once_window_s,
        )
        self._taken.settled(deliveries)
        return lost

    def settle_and_receive(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        queues: Sequence[str],
        *,
        max_messages: int,
    ) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """Settle, and in the same exchange take what is there or begin to wait for it.

        A task's only follow-up it takes itself where nothing else waits: the steps of a chain
        need no other process to wake. In a Cluster it settles alone.
        """
        if not deliveries or self._client.is_cluster or max_messages < 1:
            return self.settle(deliveries, follow_ups), ()
        lanes = self._lanes_of(queues)
        look = partial(self._look_along, lanes, max_messages)
        try:
            self._get_ready(queues)
            done, only = None, follow_ups[0] if len(follow_ups) == 1 else None
            if only is not None and only.due_at is None and only.queue in queues:
                done = self._go_on_with(deliveries, only, lanes, max_messages, look)
            lost, taken = done or self._settle_along(deliveries, follow_ups, lanes, look)
        except FAILED as exc:
            self._be_unsure_of(lanes)
            raise self._failures.told(exc) from exc
        self._taken.settled(deliveries)
        return lost, taken

    def _settle_along(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        lanes: tuple[Lane, ...],
        look: LookFor,
    ) -> tuple[list[Delivery], list[Delivery]]:
        """Settle, and then look, or wait, in the same exchange."""
        window_s = self.once_window_s
        if not follow_ups:
            acks = self._settler.acks(deliveries, window_s=window_s)
            replies, taken = self._watch.settle(acks.calls(), lanes, self._consumer, look)
            return self._settler.lost(acks, replies), taken
        made = self._sender.prepared(
            deliveries, follow_ups, at=self._clock.time(), now=self._now(), window_s=window_s
        )
        replies, taken = self._watch.settle([made.run.call()], lanes, self._consumer, look)
        _, lost = made.told(raised(self._client.taught([made.run], replies))[0])
        return lost, taken

    def _go_on_with(
        self,
        deliveries: Sequence[Delivery],
        follow_up: Message,
        lanes: tuple[Lane, ...],
        max_messages: int,
        look: LookFor,
    ) -> tuple[list[Delivery], list[Delivery]] | None:
        """Settle, send `follow_up`, and take what is there, all as one step; None: it is none."""
        draft = self._sender.follow_up(follow_up, at=self._clock.time())
        step = Step.of(self._keys, deliveries, draft, lanes)
        if step is None:
            return None
        lost: list[Delivery] = []
        by = partial(self._step, step, max_messages, lost)
        taken = self._watch.take_by(by, lanes, look)
        return None if taken is None else (lost, taken)

    def _step(
        self, step: Step, limit: int, lost: list[Delivery], along: Sequence[Call], _takes: bool
    ) -> Look:
        """Do a step, after `along`; add what wasn't held any more to `lost`."""
        delivered = self._taken.delivered(step.lanes)
        asked = self._fetcher.ask(
            step.lanes, limit, self._consumer, self._node, self._now(), ABOUT_TO_WAIT, delivered
        )
        run = step.run(asked, window_s=self.once_window_s)
        *replies, reply = self._client.run(*run, along=along)
        gone, found = step.read(reply)
        lost += gone
        if found is None:  # no other message was looked at
            look, delivered = self._fetcher.handed(asked, step.place, step.entry, replies), []
        else:
            look = self._fetcher.found(asked, found, replies)
        self._taken.note(look, delivered)
        return look

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        """Give `deliveries` back unrun, at their old place, to be received after `delay_s`."""
        if deliveries:
            self._do(self._settler.give_back, deliveries, delay_s=delay_s, now=self._now())

    def bury(self, burials: Sequence[Burial]) -> None:
        """Move each delivery to the dead letters; what isn't held any more is passed over."""
        if burials:
            self._do(self._dead.bury, burials, now=self._now())

    # -- leases -------------------------------------------------------------------------------

    def join(self, node: str, consumer: str, *, lease_s: float) -> None:
        """Say who receives through this handle."""
        self._do(self._leases.renew, node, lease_s, now=self._now(), keeps=True)
        self._node, self._consumer, self._lease_s = node, consumer, lease_s
        self._has_joined = True
        self._ensure_at = self._clock.monotonic() + lease_s * _ENSURE_PART

    def renew(self, node: str, *, lease_s: float) -> bool:
        """Prolong the node's lease. False: it had none, and what it held was given back."""
        return self._do(self._leases.renew, node, lease_s, now=self._now())

    def held(self, consumer: str) -> Sequence[Delivery]:
        """Return what Redis thinks that `consumer` holds."""
        if consumer != self._consumer:
            return self._do(self._leases.held, consumer)
        # What this handle received itself is in few lanes, and an idle one asks for nothing.
        lanes = self._taken.unclear(looks_at_all=self._watch.is_unsure)
        delivered = self._taken.all_delivered()
        if not lanes:
            return ()
        found = self._do(self._leases.held_of, consumer, list(lanes), delivered)
        self._taken.clear(lanes, found)
        return found

    def recover_consumer(
        self, consumer: str, *, struck: Mapping[str, float] = MappingProxyType({})
    ) -> int:
        """Give back all that a dead `consumer` holds; what is `struck` gets a strike and a delay."""
        return self._do(
            self._leases.recover_consumer,
            consumer,
            now=self._now(),
            struck=fields_of(struck.items()),
        )

    def recover_expired(self) -> int:
        """Give back all that nodes with an expired lease hold, without a strike."""
        return self._do(self._leases.recover_expired, now=self._now())

    def leave(self, node: str) -> None:
        """End the node's lease and give back all that its consumers still hold."""
        self._do(self._leases.leave, node, now=self._now())

    # -- the handle ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make a `receive` that waits in another thread return at once, empty."""
        self._watch.interrupt()

    def check(self) -> None:
        """Raise BrokerError where the server can't be reached, or takes no writes."""
        self._do(self._client.call, self._keys.queues, "SREM", self._keys.queues, "")

    def close(self) -> None:
        """Free all connections. Held deliveries stay held until their lease ends."""
        self._watch.close()
        self._client.close()


def _keeps_celerys_order(options: Mapping[str, Any]) -> bool:
    order = options.get("priority_order", "umbel")
    if order not in {"umbel", "celery"}:
        raise ConfigError(
            f"the transport option priority_order={order!r} must be 'umbel' (a higher priority "
            f"goes first) or 'celery' (on Redis, 0 goes first)"
        )
    return bool(order == "celery")
