"""The fixtures that users' tests get, and that other tests notice nothing of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]


def test_task_of_a_test_is_run_by_its_worker(umbel_app, umbel_worker):
    @umbel_app.task
    def add(x, y):
        return x + y

    assert add.delay(2, 3).get(timeout=10) == 5


def test_apps_of_two_tests_share_nothing(umbel_app, pytester):
    umbel_app.send_task("left.behind")

    pytester.makepyfile("""
        def test_other(umbel_app):
            assert umbel_app.broker.stats("celery").ready == 0
    """)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert umbel_app.broker.stats("celery").ready == 1


@pytest.mark.umbel(task_default_queue="marked")
def test_marker_sets_settings(umbel_app):
    assert umbel_app.conf.task_default_queue == "marked"
    assert umbel_app.conf.broker_url == "memory://"


def test_config_fixture_sets_settings_and_the_nearest_marker_wins(pytester):
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def umbel_config():
            return {"task_default_queue": "configured", "task_default_priority": 3}
    """)
    pytester.makepyfile("""
        import pytest

        def test_config(umbel_app):
            assert umbel_app.conf.task_default_queue == "configured"

        @pytest.mark.umbel(task_default_queue="class")
        class TestMarked:
            @pytest.mark.umbel(task_default_queue="nearest")
            def test_marker(self, umbel_app):
                assert umbel_app.conf.task_default_queue == "nearest"
                assert umbel_app.conf.task_default_priority == 3
    """)
    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=2)


def test_countdown_of_hours_runs_as_soon_as_the_clock_is_moved(
    umbel_app, umbel_clock, umbel_worker
):
    @umbel_app.task
    def later():
        return "run"

    result = later.apply_async(countdown=3 * 3600)
    assert not result.ready()
    umbel_clock.advance("3h")

    assert result.get(timeout=10) == "run"


def test_worker_options_fixture_chooses_the_pool(pytester):
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def umbel_worker_options():
            return {"pool": "solo", "queues": ["own"], "hostname": "mine@here"}
    """)
    pytester.makepyfile("""
        def test_pool(umbel_app, umbel_worker):
            @umbel_app.task(queue="own")
            def double(x):
                return 2 * x

            assert umbel_worker.hostname == "mine@here"
            assert double.delay(4).get(timeout=10) == 8
    """)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_plugin_loads_nothing_of_umbel_for_tests_that_do_not_use_it():
    program = (
        "import sys, umbel_testing.pytest_plugin, umbel_testing.hooks\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'umbel'])\n"
        "print([name for name in sys.modules if name.startswith('umbel_testing')])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    umbel, testing = found.stdout.splitlines()

    assert umbel == "[]"
    assert testing == str(["umbel_testing", "umbel_testing.pytest_plugin", "umbel_testing.hooks"])


def test_hooks_module_loads_no_pytest():
    program = "import sys, umbel_testing.hooks; print('pytest' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "False"
