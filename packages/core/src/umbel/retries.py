"""When to try again: a task that failed, and a message that couldn't be published.

Pure: no clock is read but the one that is given, and nobody sleeps here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Self, TypeAlias

import msgspec

from umbel.clock import Clock
from umbel.errors import ConfigError, InvalidTaskError, TaskSignal, near_matches

#: What ``autoretry_for`` takes: exception classes and predicates, one or many.
Matcher: TypeAlias = (
    type[BaseException]
    | Callable[[BaseException], object]
    | Sequence[type[BaseException] | Callable[[BaseException], object]]
)

_MAX_DOUBLINGS = 64  # beyond any number of seconds that could be meant


def retry_delay(
    retries: int,
    *,
    default_delay_s: float,
    backoff: bool | float | None,
    backoff_max: float | None,
    jitter: bool,
    random: Callable[[], float],
) -> float:
    """Return how many seconds to wait before a task's next run, by Celery's rules.

    Args:
        retries: How many times it was retried before; 0 at the first retry.
        default_delay_s: The delay without backoff.
        backoff: The first delay in seconds, doubled with each retry; True: 1 second;
            False, None or 0: no backoff.
        backoff_max: Bound on the doubled delay; None: no bound.
        jitter: Draw the delay evenly from 0 to the computed one ("full jitter"), so that what
            failed together doesn't come back together. Without effect where there's no backoff.
        random: Returns a number from 0 to below 1.
    """
    if not backoff:
        return max(0.0, default_delay_s)
    delay = float(backoff) * 2.0 ** min(max(retries, 0), _MAX_DOUBLINGS)
    if backoff_max is not None:
        delay = min(delay, backoff_max)
    return max(0.0, delay * random() if jitter else delay)


def matches(exc: BaseException, autoretry_for: Matcher, dont_autoretry_for: Matcher = ()) -> bool:
    """Tell whether a task that raised `exc` is to be retried by itself.

    Each of the two is exception classes and predicates; `dont_autoretry_for` wins. The signals
    Retry, Ignore and Reject never match: the task has decided.

    Raises: InvalidTaskError: a predicate failed, or something else stands in the lists.
    """
    if isinstance(exc, TaskSignal):
        return False
    return _any_match(exc, autoretry_for) and not _any_match(exc, dont_autoretry_for)


def _any_match(exc: BaseException, matcher: Matcher) -> bool:
    entries = matcher if isinstance(matcher, (list, tuple, set, frozenset)) else (matcher,)
    for entry in entries:
        if isinstance(entry, type) and issubclass(entry, BaseException):
            if isinstance(exc, entry):
                return True
        elif callable(entry):
            try:
                if entry(exc):
                    return True
            except Exception as failed:
                raise InvalidTaskError(
                    f"retry predicate {entry!r} raised {type(failed).__name__} on {exc!r:.200}"
                ) from failed
        else:
            raise InvalidTaskError(
                f"autoretry_for takes exception classes and predicates, not {entry!r:.80}"
            )
    return False


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and after which pauses to try publishing again. Field names are Celery's."""

    #: Tries after the first one; None: no bound but the deadline.
    max_retries: int | None = 3
    #: Seconds before the first retry.
    interval_start: float = 0.0
    #: Seconds that each pause is longer than the one before.
    interval_step: float = 0.2
    #: The longest pause, in seconds; a longer `interval_start` counts.
    interval_max: float = 1.0
    #: Exception classes to try again after; None: those that mean "not reachable now".
    retry_errors: tuple[type[BaseException], ...] | None = None
    #: Seconds for all tries together; None: no bound.
    deadline_s: float | None = None

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], base: RetryPolicy | None = None) -> Self:
        """Read ``retry_policy=`` or the setting; what `raw` leaves out comes from `base`.

        Raises: ConfigError: an unknown key, or a value of a wrong type or range.
        """
        start = cls() if base is None else base
        fields = {name: getattr(start, name) for name in cls.__struct_fields__}
        for key, value in raw.items():
            if key not in fields:
                close = near_matches(str(key), fields, limit=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ConfigError(
                    f"a retry policy has no {key!r}{hint} (known: {', '.join(fields)})"
                )
            fields[key] = tuple(value) if isinstance(value, list) else value
        return cls(**fields)

    def __post_init__(self) -> None:
        """Check the values. Raises: ConfigError."""
        retries: Any = self.max_retries  # msgspec checks nothing in a constructor
        if retries is not None and not (_is_number(retries) and float(retries).is_integer()):
            raise ConfigError(
                f"max_retries of a retry policy must be a number of retries or None, "
                f"not {retries!r:.80}"
            )
        for key in ("interval_start", "interval_step", "interval_max", "deadline_s"):
            value = getattr(self, key)
            if not _is_number(value) and not (value is None and key == "deadline_s"):
                raise ConfigError(
                    f"{key} of a retry policy must be seconds, 0 or more, not {value!r:.80}"
                )
        kinds: Any = self.retry_errors
        for kind in kinds or ():
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise ConfigError(
                    f"retry_errors of a retry policy must be exception classes, not {kind!r:.80}"
                )

    def pause_s(self, retry: int) -> float:
        """Return the seconds to sleep before retry number `retry`, the first being 1."""
        longest = max(self.interval_start, self.interval_max)
        return min(self.interval_start + (retry - 1) * self.interval_step, longest)

    def sleeps(self, clock: Clock, *, started_at: float | None = None) -> Iterator[float]:
        """Yield the seconds to sleep before each retry; ends when it is time to give up.

        A pause that would go past the deadline is cut, so that one last try is made at it.

        Args:
            clock: Tells how much of the deadline is used up.
            started_at: When the first try began (`clock.monotonic`); None: at the first `next`.
        """
        began = clock.monotonic() if started_at is None else started_at
        retry = 1
        while self.max_retries is None or retry <= self.max_retries:
            pause = self.pause_s(retry)
            if self.deadline_s is not None:
                left = began + self.deadline_s - clock.monotonic()
                if left <= 0:
                    return
                pause = min(pause, left)
            yield pause
            retry += 1

    def applies_to(self, exc: BaseException, default: tuple[type[BaseException], ...]) -> bool:
        """Tell whether to try again after `exc`; `default` counts where no errors are named."""
        return isinstance(exc, self.retry_errors if self.retry_errors is not None else default)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and isfinite(value)
        and value >= 0
    )
