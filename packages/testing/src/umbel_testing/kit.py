"""What all suites share: the one fixture, time, threads, and the rule about overriding.

A suite is a class of tests. Its author's subclass supplies the fixture that makes handles; where
the store can be driven by a virtual clock, it may also override `now` and `pass_time`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import pytest

from umbel.ids import new_id

T = TypeVar("T")

_HOME = __name__.partition(".")[0]
_FIRST_STEP_S, _LONGEST_STEP_S = 0.0005, 0.05


class OverriddenTestError(TypeError):
    """A subclass replaces a test of its suite without saying why."""


class Suite:
    """Base of all suites."""

    #: Real seconds that anything which should happen may take, before a test gives up.
    patience_s: ClassVar[float] = 10.0
    #: Real seconds that a wait may last beyond what was asked for: the contracts say one.
    grace_s: ClassVar[float] = 1.0
    #: Seconds ahead that "a little later" is. Longer for a store that counts whole seconds.
    soon_s: ClassVar[float] = 0.5

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that replaces a standard test silently.

        Raises: OverriddenTestError: at collection, since that is when the class is made.
        """
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] == _HOME:
            return
        for name, value in vars(cls).items():
            if name.startswith("test") and _is_standard(cls, name) and not _has_reason(value):
                raise OverriddenTestError(
                    f"{cls.__name__}.{name} replaces a test of the suite; where your plugin can't "
                    f"pass it, mark it @pytest.mark.xfail(reason=…) and call super(), or take "
                    f"another name"
                )

    def now(self) -> float:
        """Return the store's wall clock, unix seconds."""
        return time.time()

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the store."""
        time.sleep(seconds)

    def eventually(self, found: Callable[[], T]) -> T:
        """Return what `found` returns once it is true; fails when `patience_s` is over."""
        ends_at, pause_s = time.monotonic() + self.patience_s, _FIRST_STEP_S
        while not (answer := found()) and time.monotonic() < ends_at:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_STEP_S)
        assert answer, f"not so within {self.patience_s} s"
        return answer

    def unique(self, word: str) -> str:
        """Return a name that no other test uses."""
        return f"kit-{word}-{new_id()[-12:]}"


class Running(Generic[T]):
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._entered = threading.Event()
        # A daemon: a broken plugin that never returns must not keep the test run alive.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._entered.wait()

    def goes_on(self, seconds: float = _LONGEST_STEP_S) -> bool:
        """Give the call some real time, and tell whether it still runs then."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self, within_s: float, *, nudge: Callable[[], object] | None = None) -> T:
        """Return what the call returns; fails after `within_s` real seconds.

        Args:
            nudge: Called again and again meanwhile, for what takes effect only on a call that
                waits already.
        """
        ends_at = time.monotonic() + within_s
        while True:
            if nudge is not None:
                nudge()
            if not self.goes_on(min(_LONGEST_STEP_S, within_s)):
                break
            assert time.monotonic() < ends_at, f"the call did not return within {within_s} s"
        if self._errors:
            raise self._errors[0]
        return self._answers[0]

    def _run(self) -> None:
        self._entered.set()
        try:
            self._answers.append(self._call())
        except BaseException as error:  # noqa: BLE001  told to whoever asks for the result
            self._errors.append(error)


def missing_fixture(suite: Suite, name: str, returns: str) -> NoReturn:
    """Say which fixture a subclass has to supply."""
    pytest.fail(
        f"{type(suite).__name__} must override the fixture {name!r}: it returns {returns}",
        pytrace=False,
    )


def _is_standard(cls: type, name: str) -> bool:
    return any(
        name in vars(base) and base.__module__.partition(".")[0] == _HOME
        for base in cls.__mro__[1:]
    )


def _has_reason(value: Any) -> bool:
    return any(
        mark.name == "xfail" and mark.kwargs.get("reason")
        for mark in getattr(value, "pytestmark", ())
    )
