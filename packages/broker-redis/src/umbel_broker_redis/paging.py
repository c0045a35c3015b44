"""Several sorted sets read as one, in pages, wherever the sets are.

However far a page is, no more than a page of each set is read: the score at which it begins is
searched for by counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from umbel_redis_client import Call, Client, pack, raised

#: Most that is read of a set at once, so that Redis isn't held up.
_READ: Final = 1000
#: Scores that are tried in one round trip.
_TRIED: Final = 15
_LEAST, _MOST = "-inf", "+inf"


class Found(NamedTuple):
    """A member of one of the sets."""

    #: Which set: its place among the keys.
    source: int
    member: bytes
    score: int


class Merged:
    """Sorted sets with whole scores, in the order of the scores; of one score by set."""

    def __init__(
        self,
        client: Client,
        keys: Sequence[str],
        *,
        above: str = _LEAST,
        newest_first: bool = False,
    ) -> None:
        """Read `keys` from the lowest score on; from the highest one with `newest_first`.

        Args:
            client: Where to read.
            keys: Of the sets.
            above: As Redis writes it, the least score that counts: ``"(5"`` is all above 5.
            newest_first: Turn the order round.
        """
        self._client, self._keys = client, [key.encode() for key in keys]
        self._above, self._is_turned = above, newest_first

    def page(self, limit: int, offset: int) -> list[Found]:
        """Return `limit` members from `offset` on. Raises: ReplyError, ConnectionLostError."""
        first, end = max(offset, 0), max(offset, 0) + limit
        found: dict[Found, None] = {}  # what others take out meanwhile moves the rest
        for start in range(first, end, _READ):
            some = self._page(min(end - start, _READ), start)
            found.update(dict.fromkeys(some))
            if len(some) < _READ:
                break
        return list(found)

    def _page(self, limit: int, offset: int) -> list[Found]:
        everywhere = range(len(self._keys))
        counts = self._count(everywhere, self._above, _MOST)
        filled = [index for index in everywhere if counts[index]]
        if sum(counts) <= offset:
            return []
        if len(filled) == 1:
            return self._range(filled, self._above, _MOST, [(offset, limit)])
        if not offset:
            found = self._range(filled, self._above, _MOST, [(0, limit)] * len(filled))
            return self._ordered(found)[:limit]
        return self._far_page(filled, limit, offset)

    def _far_page(self, filled: Sequence[int], limit: int, offset: int) -> list[Found]:
        cut = self._score_at(filled, offset)
        if cut is None:
            return []
        skipped = max(offset - self._before(filled, [cut])[0], 0)
        slices, left = [], limit
        same = self._count(filled, str(cut), str(cut))
        for count in same:
            taken = min(max(count - skipped, 0), left)
            slices.append((skipped, taken))
            skipped, left = max(skipped - count, 0), left - taken
        found = self._range(filled, str(cut), str(cut), slices)
        if left:
            low, high = (self._above, f"({cut}") if self._is_turned else (f"({cut}", _MOST)
            further = self._range(filled, low, high, [(0, left)] * len(filled))
            found += self._ordered(further)[:left]
        return found

    def _score_at(self, filled: Sequence[int], offset: int) -> int | None:
        """Return the score of the member at `offset`; None: all were taken out meanwhile."""
        places = [(index, end) for index in filled for end in (0, -1)]
        replies = self._do(
            [self._call(index, "ZRANGE", end, end, "WITHSCORES") for index, end in places]
        )
        ends = [_score(reply[1]) for reply in replies if reply]
        if not ends:
            return None
        # Where it is turned the search goes from the highest score down: by negative scores.
        sign = -1 if self._is_turned else 1
        low, high = sorted((sign * min(ends), sign * max(ends)))
        while low < high:
            step = -(-(high - low) // _TRIED)
            tried = range(low + step, high + 1, step)
            counts = self._before(filled, [sign * score for score in tried])
            passed = sum(count <= offset for count in counts)
            if passed < len(tried):
                high = tried[passed] - 1
            if passed:
                low = tried[passed - 1]
        return sign * low

    def _before(self, filled: Sequence[int], scores: Sequence[int]) -> list[int]:
        """Return how many members come before all those with a score, for each of `scores`."""
        bounds = [
            (f"({score}", _MOST) if self._is_turned else (self._above, f"({score}")
            for score in scores
        ]
        calls = [self._call(index, "ZCOUNT", *each) for each in bounds for index in filled]
        counts, size = self._do(calls), len(filled)
        return [sum(counts[start : start + size]) for start in range(0, len(counts), size)]

    def _count(self, indexes: Sequence[int], low: str, high: str) -> list[int]:
        return self._do([self._call(index, "ZCOUNT", low, high) for index in indexes])

    def _range(
        self, indexes: Sequence[int], low: str, high: str, slices: Sequence[tuple[int, int]]
    ) -> list[Found]:
        """Return what the slices (start, count) of a range of scores have, set by set."""
        command = ("ZRANGEBYSCORE", low, high)
        if self._is_turned:
            command = ("ZREVRANGEBYSCORE", high, low)
        wanted = [pair for pair in zip(indexes, slices, strict=True) if pair[1][1]]
        replies = self._do(
            [self._call(index, *command, "WITHSCORES", "LIMIT", *each) for index, each in wanted]
        )
        return [
            Found(index, member, _score(score))
            for (index, _), reply in zip(wanted, replies, strict=True)
            for member, score in zip(reply[::2], reply[1::2], strict=True)
        ]

    def _ordered(self, found: list[Found]) -> list[Found]:
        """Sort by score; what has the same one stays in the order of the sets."""
        sign = -1 if self._is_turned else 1
        return sorted(found, key=lambda each: sign * each.score)

    def _call(self, index: int, command: str, *args: str | int) -> Call:
        key = self._keys[index]
        return Call(key, pack((command, key, *args)))

    def _do(self, calls: Sequence[Call]) -> list[Any]:
        return raised(self._client.pipeline(calls))


def _score(text: bytes) -> int:
    return int(float(text))
