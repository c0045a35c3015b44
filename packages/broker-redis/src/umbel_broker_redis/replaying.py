"""Sending a message in the place of a dead letter: one goes as the other comes.

On one server that is one script. In a Cluster the two are on different nodes: the letter is claimed
first, so that one caller wins; then the message is sent under a key, by which a repeat is
recognised; then the letter goes. A crash in between leaves the letter, never loses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from umbel.messages import Message
from umbel_broker_redis.envelope import Codec
from umbel_broker_redis.keys import STEP_OF, Keys, Lane
from umbel_broker_redis.lua import NOW, WHOLE
from umbel_redis_client import FAILED, Call, Client, Script, pack

#: Most that one script replays.
_CHUNK: Final = 200
#: Milliseconds that a claimed letter is kept for who has claimed it.
_CLAIM_MS: Final = 60_000
#: Milliseconds for which it is known that a letter was replayed, should it still be there.
_KNOWN_MS: Final = 86_400_000

#: `put(ready, delayed, channel, entry, due)`: stores a message; `due` is 0 for at once. Everywhere
#: it comes first, since a script that is refused half-way isn't undone.
_PUT: Final = (
    NOW
    + WHOLE
    + """
local at = now(ARGV[1])
local function put(ready, delayed, channel, entry, due)
  if tonumber(due) > at then
    redis.call('ZADD', delayed, due, entry)
    redis.call('PUBLISH', channel, 'due:' .. whole(math.ceil(due - at)))
  else
    redis.call('LPUSH', ready, entry)
  end
end
"""
)
#: KEYS: of each letter dead and dead_records, then ready and delayed of its message. ARGV: now, then
#: of each id, entry, due, channel. Returns: for each whether it was there.
_REPLAY: Final = Script(
    _PUT
    + """
local there = {}
for index = 0, #KEYS / 4 - 1 do
  local dead, records, ready, delayed = unpack(KEYS, index * 4 + 1, index * 4 + 4)
  local id, entry, due, channel = unpack(ARGV, index * 4 + 2, index * 4 + 5)
  there[index + 1] = redis.call('ZSCORE', dead, id) and 1 or 0
  if there[index + 1] == 1 then
    put(ready, delayed, channel, entry, due)
    redis.call('ZREM', dead, id)
    redis.call('HDEL', records, id)
  end
end
return there
"""
)
#: KEYS: dead, then the key of each claim. ARGV: milliseconds, ids. Returns: for each whether it was
#: there and is claimed now.
_CLAIM: Final = Script(
    """
local claimed = {}
for index = 2, #KEYS do
  claimed[index - 1] = 0
  if redis.call('ZSCORE', KEYS[1], ARGV[index])
      and redis.call('SET', KEYS[index], '1', 'NX', 'PX', ARGV[1]) then
    claimed[index - 1] = 1
  end
end
return claimed
"""
)
#: KEYS: ready, delayed, then the key by which each replay is known. ARGV: now, milliseconds that
#: they are, channel, then of each entry and due.
_SEND: Final = Script(
    _PUT
    + """
for index = 3, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 0 then
    put(KEYS[1], KEYS[2], ARGV[3], ARGV[index * 2 - 2], ARGV[index * 2 - 1])
    redis.call('SET', KEYS[index], '1', 'PX', ARGV[2])
  end
end
return 1
"""
)
#: KEYS: dead, dead_records, then the key of each claim. ARGV: ids.
_DROP: Final = Script(
    """
redis.call('ZREM', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
redis.call('DEL', unpack(KEYS, 3))
return 1
"""
)


class Replay(NamedTuple):
    """A dead letter, and what to send in its place."""

    receipt: str
    lane: Lane
    id: str
    message: Message


class _Draft(NamedTuple):
    """A replay with its message as it is stored."""

    replay: Replay
    target: Lane
    entry: bytes
    #: Unix milliseconds; 0: at once.
    due: int


class Replayer:
    """Replays dead letters."""

    def __init__(self, client: Client, keys: Keys, codec: Codec) -> None:
        self._client, self._keys, self._codec = client, keys, codec

    def replay(self, replays: Sequence[Replay], *, at: float, now: str) -> set[str]:
        """Send what is to take the place of letters that are there; return receipts of the others.

        Args:
            replays: Which letters, and what to send.
            at: Unix seconds by this machine's clock.
            now: Unix milliseconds for scripts; empty: the server's own clock.
        Raises: BrokerError: a message can't be sent; none was. ReplyError, ConnectionLostError.
        """
        # One letter goes once, whoever names it twice.
        drafts = list({each.receipt: self._draft(each, at) for each in reversed(replays)}.values())
        drafts.reverse()
        if not drafts:
            return set()
        self._announce({draft.target.queue for draft in drafts})
        gone: set[str] = set()
        for start in range(0, len(drafts), _CHUNK):
            some = drafts[start : start + _CHUNK]
            done = self._in_cluster(some, now) if self._client.is_cluster else self._do(some, now)
            gone.update(
                draft.replay.receipt for draft, was in zip(some, done, strict=True) if not was
            )
        return gone

    def _draft(self, replay: Replay, at: float) -> _Draft:
        message = replay.message
        step = STEP_OF[self._codec.wire_priority(message.priority)]
        due = 0 if message.due_at is None else round(message.due_at * 1000)
        entry = self._codec.encode(message, at)
        return _Draft(replay, self._keys.lane(message.queue, step), entry, due)

    def _announce(self, queues: Iterable[str]) -> None:
        self._client.call(self._keys.queues, "SADD", self._keys.queues, *queues)

    def _do(self, drafts: Sequence[_Draft], now: str) -> list[int]:
        keys: list[str] = []
        args: list[str | int | bytes] = [now]
        for replay, target, entry, due in drafts:
            keys += (replay.lane.dead, replay.lane.dead_records, target.ready, target.delayed)
            args += (replay.id, entry, due, self._keys.channel(target.queue))
        there: list[int] = self._client.eval(_REPLAY, keys, args)
        return there

    # -- in a Cluster -------------------------------------------------------------------------

    def _in_cluster(self, drafts: Sequence[_Draft], now: str) -> list[int]:
        letters = _grouped((draft.replay.lane, draft) for draft in drafts)
        won: dict[str, int] = {}
        for lane, some in letters.items():
            keys = [lane.dead, *map(_claim_key, some)]
            ids = [draft.replay.id for draft in some]
            claims = self._client.eval(_CLAIM, keys, (_CLAIM_MS, *ids))
            won.update(zip([draft.replay.receipt for draft in some], claims, strict=True))
        ours = [draft for draft in drafts if won[draft.replay.receipt]]
        try:
            for target, some in _grouped((draft.target, draft) for draft in ours).items():
                self._send(target, some, now)
        except FAILED:
            self._release(ours)
            raise
        for lane, some in _grouped((draft.replay.lane, draft) for draft in ours).items():
            keys = [lane.dead, lane.dead_records, *map(_claim_key, some)]
            self._client.eval(_DROP, keys, [draft.replay.id for draft in some])
        return [won[draft.replay.receipt] for draft in drafts]

    def _send(self, target: Lane, drafts: Sequence[_Draft], now: str) -> None:
        keys = [target.ready, target.delayed]
        keys += [f"{target.own}replayed:{draft.replay.receipt}" for draft in drafts]
        args: list[str | int | bytes] = [now, _KNOWN_MS, self._keys.channel(target.queue)]
        for draft in drafts:
            args += (draft.entry, draft.due)
        self._client.eval(_SEND, keys, args)

    def _release(self, drafts: Sequence[_Draft]) -> None:
        """Let others have what was claimed; where that fails too, the claims end by themselves."""
        calls = [Call((key := _claim_key(draft)).encode(), pack(("DEL", key))) for draft in drafts]
        with suppress(*FAILED):
            self._client.pipeline(calls)


def _claim_key(draft: _Draft) -> str:
    return f"{draft.replay.lane.own}replaying:{draft.replay.id}"


def _grouped(pairs: Iterable[tuple[Lane, _Draft]]) -> dict[Lane, list[_Draft]]:
    groups: dict[Lane, list[_Draft]] = {}
    for lane, draft in pairs:
        groups.setdefault(lane, []).append(draft)
    return groups
