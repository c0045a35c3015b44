from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import ConfigError, Ignore, InvalidTaskError, Reject, Retry
from umbel.retries import RetryPolicy, matches, retry_delay


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def delay(retries: int, **how: Any) -> float:
    given = {
        "default_delay_s": 180.0,
        "backoff": True,
        "backoff_max": 600,
        "jitter": False,
        "random": lambda: 0.5,
        **how,
    }
    return retry_delay(retries, **given)


class TestDelay:
    def test_backoff_doubles_from_one_second_up_to_its_bound(self) -> None:
        delays = [delay(retries) for retries in range(12)]

        assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]

    @pytest.mark.parametrize("backoff, expected", [(5, 40), (0.5, 4), (1, 8), (True, 8)])
    def test_the_factor_is_the_first_delay(self, backoff: float, expected: float) -> None:
        assert delay(3, backoff=backoff) == expected

    @pytest.mark.parametrize("backoff", [False, None, 0])
    @pytest.mark.parametrize("jitter", [True, False])
    def test_without_backoff_it_is_the_tasks_own(self, backoff: Any, jitter: bool) -> None:
        assert delay(3, backoff=backoff, jitter=jitter) == 180.0

    def test_jitter_draws_from_nothing_to_all_of_it(self) -> None:
        drawn = [delay(3, jitter=True, random=lambda n=n: n) for n in (0.0, 0.25, 0.75)]

        assert drawn == [0.0, 2.0, 6.0]

    @given(st.integers(0, 10**6), st.booleans(), st.one_of(st.none(), st.floats(0, 1e6)))
    def test_it_is_finite_and_within_its_bound(
        self, retries: int, jitter: bool, bound: float | None
    ) -> None:
        found = delay(retries, jitter=jitter, backoff_max=bound, random=random.random)

        assert 0 <= found <= (bound if bound is not None else 2.0**64)

    def test_a_negative_delay_is_none(self) -> None:
        assert delay(0, backoff=False, default_delay_s=-5) == 0


class TestMatches:
    @pytest.mark.parametrize(
        "autoretry_for",
        [
            (OSError,),
            [KeyError, OSError],
            OSError,
            {OSError},
            (Exception,),
            lambda exc: exc.args == ("x",),
            (KeyError, lambda exc: isinstance(exc, OSError)),
        ],
    )
    def test_a_class_or_predicate_matches(self, autoretry_for: Any) -> None:
        assert matches(ConnectionError("x"), autoretry_for)

    @pytest.mark.parametrize("autoretry_for", [(), (KeyError,), lambda exc: False])
    def test_others_do_not(self, autoretry_for: Any) -> None:
        assert not matches(ConnectionError("x"), autoretry_for)

    @pytest.mark.parametrize("never", [(ConnectionError,), lambda exc: True, OSError])
    def test_what_is_never_to_be_retried_wins(self, never: Any) -> None:
        assert not matches(ConnectionError("x"), (OSError,), never)
        assert matches(KeyError("x"), (Exception,), (OSError,))

    @pytest.mark.parametrize("signal", [Retry(), Ignore(), Reject()])
    def test_signals_never_match(self, signal: Exception) -> None:
        assert not matches(signal, (Exception,))
        assert not matches(signal, lambda exc: True)

    def test_a_failing_predicate_is_named(self) -> None:
        def wrong(exc: BaseException) -> bool:
            raise RuntimeError("oops")

        with pytest.raises(InvalidTaskError, match=r"wrong.*RuntimeError"):
            matches(KeyError("x"), (wrong,))

    def test_something_else_in_the_list_is_an_error(self) -> None:
        with pytest.raises(InvalidTaskError, match="not 'OSError'"):
            matches(KeyError("x"), ("OSError",))  # type: ignore[arg-type]


class TestRetryPolicy:
    def test_pauses_grow_by_a_step_up_to_the_longest(self) -> None:
        policy = RetryPolicy(max_retries=8, interval_start=0, interval_step=0.2, interval_max=1)

        assert [round(pause, 6) for pause in policy.sleeps(Time())] == [
            0,
            0.2,
            0.4,
            0.6,
            0.8,
            1,
            1,
            1,
        ]

    def test_a_long_first_pause_counts(self) -> None:
        policy = RetryPolicy(max_retries=3, interval_start=5, interval_step=0.2, interval_max=1)

        assert list(policy.sleeps(Time())) == [5, 5, 5]

    def test_no_retries(self) -> None:
        assert list(RetryPolicy(max_retries=0).sleeps(Time())) == []

    def test_without_a_number_it_goes_on(self) -> None:
        assert len(list(islice(RetryPolicy(max_retries=None).sleeps(Time()), 1000))) == 1000

    def test_the_deadline_ends_it_with_a_last_try_at_it(self) -> None:
        clock, slept = Time(), []
        policy = RetryPolicy(
            max_retries=None, interval_start=4, interval_step=0, interval_max=4, deadline_s=10
        )

        for pause in policy.sleeps(clock):
            slept.append(pause)
            clock.now += pause

        assert slept == [4, 4, 2]

    def test_the_first_try_counts_towards_the_deadline(self) -> None:
        clock = Time()
        clock.now = 111.0
        policy = RetryPolicy(deadline_s=10)

        assert list(policy.sleeps(clock, started_at=100.0)) == []

    def test_which_errors_it_is_for(self) -> None:
        assert RetryPolicy().applies_to(ConnectionError(), (OSError,))
        assert not RetryPolicy().applies_to(KeyError(), (OSError,))
        assert RetryPolicy(retry_errors=(KeyError,)).applies_to(KeyError(), (OSError,))
        assert not RetryPolicy(retry_errors=(KeyError,)).applies_to(OSError(), (OSError,))

    def test_a_mapping_changes_what_it_names(self) -> None:
        base = RetryPolicy(max_retries=7, interval_start=2, deadline_s=30)

        policy = RetryPolicy.from_mapping({"interval_start": 1, "retry_errors": [OSError]}, base)

        assert policy == RetryPolicy(
            max_retries=7, interval_start=1, deadline_s=30, retry_errors=(OSError,)
        )

    def test_an_unknown_key_proposes_the_near_one(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'interval_start'"):
            RetryPolicy.from_mapping({"intervall_start": 1})

    @pytest.mark.parametrize(
        "wrong",
        [
            {"max_retries": -1},
            {"max_retries": 1.5},
            {"max_retries": "3"},
            {"max_retries": True},
            {"interval_start": -1},
            {"interval_start": None},
            {"interval_step": float("nan")},
            {"interval_max": float("inf")},
            {"deadline_s": "10"},
            {"retry_errors": ("OSError",)},
            {"retry_errors": (int,)},
        ],
        ids=str,
    )
    def test_a_wrong_value_is_a_config_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RetryPolicy.from_mapping(wrong)
