"""Rates as tasks and settings write them: ``10``, ``"10/s"``, ``"100/m"``, ``"5/h"``."""

from __future__ import annotations

import math

from umbel.errors import ConfigError

_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: Keys of rates that were set at run time begin with this; the value is the rate as written.
RATE_PREFIX = "rate_limit/"


def parse_rate(rate: str | float | None) -> float:
    """Return how many tasks a second `rate` allows; 0.0: as many as there are.

    Args:
        rate: A number counts tasks a second, text may name the period: s, m or h.
    Raises: ConfigError: it is no rate.
    """
    if rate is None:
        return 0.0
    number: object = rate
    period_s = 1.0
    if isinstance(rate, str):
        count, slash, period = rate.partition("/")
        number = _number(count)
        period_s = _PERIODS_S.get(period.strip().lower(), 0.0) if slash else 1.0
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not period_s or not 0 <= number < math.inf:  # type: ignore[operator]
        raise ConfigError(
            f"{rate!r} is no rate; write '10/s', '100/m' or '5/h', a number of tasks a second, "
            "or 0 for no limit"
        )
    return float(number) / period_s  # type: ignore[arg-type]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def rate_problem(rate: str | float | None) -> str | None:
    """Return what is wrong with the rate in a setting; None: nothing is."""
    try:
        parse_rate(rate)
    except ConfigError:
        return "must be a rate such as '10/s', '100/m' or '5/h', or a number of tasks a second"
    return None
