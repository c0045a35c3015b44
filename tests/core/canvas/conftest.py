"""An app with a few tasks, on ``memory://``, and a worker for it."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture
def calls():
    """What the tasks of `flows` were called with: name and arguments."""
    return []


@pytest.fixture
def flows(make_app, calls):
    """An app with tasks that note what they are called with."""
    return make_flows(make_app, calls)


@pytest.fixture
def celery_flows(make_app, calls):
    """The same with Celery's semantics."""
    return make_flows(make_app, calls, canvas_semantics="celery")


def make_flows(make_app, calls, **settings):
    app = make_app(backend="memory://", **settings)
    lock = threading.Lock()

    def noted(function):
        @app.task(name=function.__name__)
        def task(*args):
            with lock:
                calls.append((function.__name__, args))
            return function(*args)

        return task

    @noted
    def add(*numbers):
        return sum(numbers)

    @noted
    def total(numbers):
        return sum(numbers)

    @noted
    def same(*args):
        return list(args)

    @noted
    def fail(*_):
        raise ValueError("bad")

    @noted
    def told(*args):
        return list(args)

    return app


@pytest.fixture
def names(calls):
    """Returns how often each task was called."""

    def count():
        found = {}
        for name, _ in calls:
            found[name] = found.get(name, 0) + 1
        return found

    return count
