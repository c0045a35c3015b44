"""When a task with a rate limit may start: now, or when to come back. Pure.

The generic cell rate algorithm (ITU-T I.371), with a plan for those who come too early. The
nearest of them are each given the moment of a start of their own. The rest come back in turn,
spread thinly: often enough that no start is lost and that a raised limit is felt at once, and
seldom enough to cost nothing, however many they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

#: Starts that were due so long ago are caught up on, so that being late costs no throughput. At
#: most ``rate × w + rate × SLACK_S + 1`` tasks start in any w seconds.
SLACK_S = 0.1
#: So far ahead each start is promised to one message.
PROMISED_S = 1.0
#: The others come back after as long as half of the time to the next free start, between these.
_SOONEST_S, _LATEST_S = PROMISED_S / 2, 2.0
#: At most so many of them a second, and at least two for each start: one may find it taken.
_RETURNS_PER_S = 100.0
#: What is kept lies at most an interval and so much ahead.
_AHEAD_S = PROMISED_S + 2 * SLACK_S
#: However many there are, each is back by then.
LONGEST_HOLD_S = 60.0
# Delays are multiples of these, so that many messages can be given back in one call.
_PROMISE_STEP_S, _RETURN_STEP_S = SLACK_S / 4, 0.1


class Pace(NamedTuple):
    """What is kept of a task type, in monotonic seconds."""

    #: When the starts so far are used up (the algorithm's theoretical arrival time).
    used_until: float = 0.0
    #: … and with them those that are promised.
    promised_until: float = 0.0
    #: When the last of the others comes back.
    returns_until: float = 0.0


def step(
    pace: Pace,
    now: float,
    rate: float,
    *,
    is_new: bool,
    jitter: Callable[[], float] = random.random,
) -> tuple[Pace, float]:
    """Let one message ask to start.

    Args:
        pace: What is known.
        now: Monotonic seconds.
        rate: Starts a second, above 0.
        is_new: It was never held: it doesn't go before those that were promised a start.
        jitter: Returns a number from 0 to below 1.
    Returns: What is known then, and the seconds to hold the message; 0.0: it starts.
    """
    interval = 1.0 / rate
    # What lies further ahead than can be was written by a process that was killed meanwhile. What
    # is no number is passed over: `min` and `max` keep the first of two that don't compare.
    used = min(now + interval + _AHEAD_S, pace.used_until)
    promised = min(now + interval + _AHEAD_S, max(used, pace.promised_until))
    returns = min(now + LONGEST_HOLD_S, pace.returns_until)
    if now >= (promised if is_new else used) - SLACK_S:
        used = max(used, now) + interval
        return Pace(used, max(promised, used), returns), 0.0
    # Half of the slack for coming early, half for coming late.
    wait_s = promised - SLACK_S / 2 - now
    if wait_s <= PROMISED_S:
        hold_s = _round_up(wait_s, _PROMISE_STEP_S)
        return Pace(used, promised + interval, returns), hold_s
    soonest = now + min(max(wait_s / 2, _SOONEST_S), _LATEST_S)
    returns = max(returns, soonest) + 1.0 / max(_RETURNS_PER_S, 2.0 * rate)
    hold_s = returns - now
    if hold_s > LONGEST_HOLD_S:
        returns, hold_s = now + LONGEST_HOLD_S, LONGEST_HOLD_S * (0.5 + jitter() / 2)
    return Pace(used, promised, returns), _round_up(hold_s, _RETURN_STEP_S)


def _round_up(seconds: float, step_s: float) -> float:
    return max(1, -int(-seconds // step_s)) * step_s
