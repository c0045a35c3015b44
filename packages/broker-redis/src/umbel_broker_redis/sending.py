"""Storing messages: at once or for later, each once, and within the bounds of queues.

A plain message is one LPUSH. All else is a script (`umbel_broker_redis.requests`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from umbel.messages import Delivery, Message, OnConflict
from umbel_broker_redis.bindings import Bindings
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import STEP_OF, Keys
from umbel_broker_redis.requests import Draft, Prepared, Runner, Terms
from umbel_redis_client import Call, Client, ConnectionLostError, pack, raised

#: Messages that a handle remembers to be in doubt, and their bytes.
_MOST_DOUBTED: Final = 10_000
_MOST_DOUBTED_BYTES: Final = 32 << 20


class Sender:
    """Stores messages for one handle."""

    def __init__(self, client: Client, keys: Keys, codec: Codec) -> None:
        self._client, self._keys, self._codec = client, keys, codec
        self._runner, self._bindings = Runner(client, keys), Bindings(client, keys)
        #: Envelopes by once key of what a plain `send` may have stored, whose reply was lost.
        self._doubted: dict[str, tuple[bytes, int]] = {}
        self._doubts = self._doubted_bytes = 0

    def send(
        self, messages: Sequence[Message], *, at: float, now: str, bounds: Mapping[str, int]
    ) -> None:
        """Store `messages`, all or none (in a Cluster: all or none of a slot).

        Args:
            messages: What to store.
            at: Unix seconds by this machine's clock.
            now: Unix milliseconds for scripts; empty: the server's own clock.
            bounds: By queue, how many may wait in it.
        Raises: QueueFullError, BrokerError; ReplyError, ConnectionLostError.
        """
        drafts = [self._draft(message, at) for message in messages]
        try:
            self._bindings.tell(messages)
            if bounds or any(message.due_at is not None for message in messages):
                self._runner.run(drafts, Terms(now, None, bounds))
            else:
                self._push(drafts)
        except ConnectionLostError:
            self._bindings.forget()
            self._doubt(drafts)
            raise

    def _push(self, drafts: Sequence[Draft]) -> None:
        lists: dict[str, list[bytes]] = {}
        for draft in drafts:
            lists.setdefault(draft.lane.ready, []).append(draft.envelope)
        calls = [Call.of("LPUSH", ready, *envelopes) for ready, envelopes in lists.items()]
        if len(calls) > 1 and not self._client.is_cluster:
            begin, end = Call(b"", pack(("MULTI",))), Call(b"", pack(("EXEC",)))
            calls = [begin, *calls, end]
        for reply in raised(self._client.pipeline(calls)):
            if isinstance(reply, list):  # what EXEC answers: one may be refused there only
                raised(reply)

    def send_once(self, messages: Sequence[Message], *, at: float, terms: Terms) -> list[str]:
        """Store those of `messages` that aren't known; return the ids of those that are.

        Raises: AlreadySentError, QueueFullError, BrokerError; ReplyError, ConnectionLostError.
        """
        drafts = self._distinct(messages, at)
        self._bindings.tell(messages)
        known, _ = self._runner.run(drafts, terms)
        for draft in drafts:
            envelope, _ = self._doubted.pop(draft.message.once_key, (b"", 0))
            self._doubted_bytes -= len(envelope)
        return known

    def settle(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        *,
        at: float,
        now: str,
        window_s: float,
    ) -> list[Delivery]:
        """Send each of `follow_ups` once and drop `deliveries`; return those not held any more.

        One step on a single server; in a Cluster the follow-ups go first.
        """
        self._bindings.tell(follow_ups)
        terms = _of_follow_ups(now, window_s)
        _, lost = self._runner.run(self._distinct(follow_ups, at), terms, deliveries)
        return lost

    def prepared(
        self,
        deliveries: Sequence[Delivery],
        follow_ups: Sequence[Message],
        *,
        at: float,
        now: str,
        window_s: float,
    ) -> Prepared:
        """Return what `settle` does on a single server, to be done along with other things."""
        self._bindings.tell(follow_ups)
        terms = _of_follow_ups(now, window_s)
        return self._runner.prepared(self._distinct(follow_ups, at), terms, deliveries)

    def follow_up(self, message: Message, *, at: float) -> Draft:
        """Return the draft of one that is to be sent once, in a script of another's."""
        self._bindings.tell((message,))
        return self._distinct((message,), at)[0]

    def _distinct(self, messages: Iterable[Message], at: float) -> list[Draft]:
        """Return drafts of `messages`; of those that are the same, of the first."""
        drafts: dict[str, Draft] = {}
        for message in messages:
            key = message.once_key
            if key not in drafts:
                envelope, number = self._doubted.get(key, (b"", 0))
                draft = self._draft(message, at)
                drafts[key] = draft._replace(doubted=envelope, doubt=number)
        return list(drafts.values())

    def _draft(self, message: Message, at: float) -> Draft:
        step = STEP_OF[self._codec.wire_priority(message.priority)]
        envelope = self._codec.encode(message, at)
        return Draft(message, self._keys.lane(message.queue, step), envelope)

    def _doubt(self, drafts: Sequence[Draft]) -> None:
        size = sum(len(draft.envelope) for draft in drafts)
        if (
            len(self._doubted) + len(drafts) > _MOST_DOUBTED
            or self._doubted_bytes + size > _MOST_DOUBTED_BYTES
        ):
            self._doubted.clear()
            self._doubted_bytes = 0
        self._doubted_bytes += size
        self._doubts += 1
        number = self._doubts
        self._doubted.update((draft.message.once_key, (draft.envelope, number)) for draft in drafts)


def _of_follow_ups(now: str, window_s: float) -> Terms:
    return Terms(now, OnConflict.RETURN, {}, window_s)
