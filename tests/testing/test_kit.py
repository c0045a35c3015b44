"""The rules of the suites: one fixture is asked for, and no test is replaced in silence."""

from __future__ import annotations

import threading

import pytest

from umbel_testing import (
    BackendSuite,
    BrokerSuite,
    CoordinatorSuite,
    PoolSuite,
    SerializerSuite,
)
from umbel_testing.kit import OverriddenTestError, Running, Suite

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    "suite, fixture",
    [
        (BrokerSuite, "make_broker"),
        (BackendSuite, "make_backend"),
        (CoordinatorSuite, "make_coordinator"),
        (SerializerSuite, "make_serializer"),
        (PoolSuite, "make_pool"),
    ],
)
def test_missing_fixture_is_named(suite, fixture, pytester):
    pytester.makepyfile(f"""
        from umbel_testing import {suite.__name__}

        class TestMine({suite.__name__}):
            pass
    """)
    result = pytester.runpytest_inprocess()

    assert result.parseoutcomes().keys() == {"errors"}
    result.stdout.fnmatch_lines([f"*TestMine must override the fixture '{fixture}'*"])


def test_replacing_a_test_is_an_error_at_collection(pytester):
    pytester.makepyfile("""
        from umbel_testing import BrokerSuite

        class TestMine(BrokerSuite):
            def test_acked_message_is_gone(self):
                pass
    """)
    result = pytester.runpytest_inprocess("--collect-only")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestMine.test_acked_message_is_gone replaces a test of*"])


@pytest.mark.parametrize(
    "replacement",
    [None, pytest.mark.skip(reason="no")(lambda self: None), pytest.mark.xfail(lambda self: None)],
    ids=["removed", "skipped", "expected to fail for no reason"],
)
def test_replacing_a_test_otherwise_is_refused_too(replacement):
    with pytest.raises(OverriddenTestError, match="test_close_can_be_repeated"):
        type("TestMine", (BrokerSuite,), {"test_close_can_be_repeated": replacement})


def test_test_may_be_expected_to_fail_for_a_reason():
    class TestMine(BrokerSuite):
        @pytest.mark.xfail(reason="its clock counts whole seconds")
        def test_close_can_be_repeated(self):
            super().test_close_can_be_repeated()

    assert TestMine.test_close_can_be_repeated is not BrokerSuite.test_close_can_be_repeated


def test_suite_may_have_tests_of_its_own():
    class TestMine(BrokerSuite):
        def test_of_my_own(self):
            pass

    class TestMineAgain(TestMine):
        def test_of_my_own(self):
            pass

    assert issubclass(TestMineAgain, BrokerSuite)


def test_running_call_tells_its_result_and_its_error():
    assert Running(lambda: 5).result(5.0) == 5
    with pytest.raises(ZeroDivisionError):
        Running(lambda: 1 / 0).result(5.0)


def test_running_call_that_does_not_end_fails_in_time():
    ended = threading.Event()
    running = Running(ended.wait)

    assert running.goes_on(0)
    with pytest.raises(AssertionError, match=r"did not return within 0\.1 s"):
        running.result(0.1)
    assert running.result(5.0, nudge=ended.set)


def test_eventually_gives_up_after_its_patience():
    class Impatient(Suite):
        patience_s = 0.05

    assert Impatient().eventually(lambda: "there") == "there"
    with pytest.raises(AssertionError, match=r"not so within 0\.05 s"):
        Impatient().eventually(lambda: None)
