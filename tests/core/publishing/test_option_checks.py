"""Values of options of a send: a wrong one is refused before anything is sent, and named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from umbel import Signature
from umbel.errors import InvalidTaskError, UmbelError
from umbel.messages import OnConflict
from umbel.options import SEND_OPTIONS
from umbel.publishing.option_checks import check_held, check_values

NAN, INF = float("nan"), float("inf")
A = Signature("a")
WRONG = {
    "task_id": [5, [], b"x"],
    "countdown": ["soon", NAN, INF, 1e12, 10**400, [], True, timedelta.max],
    "eta": ["soon", 5, timedelta(1), []],
    "expires": ["soon", NAN, []],
    "time_limit": ["1", NAN, -1, True],
    "soft_time_limit": ["1", -0.5],
    "queue": [5, "", [], b"q"],
    "exchange": [5, []],
    "routing_key": [5],
    "route_name": [5],
    "priority": ["high", -1, 256, 1.5, True],
    "delivery_mode": ["x", 3, []],
    "mandatory": ["no"],
    "serializer": [5],
    "compression": [5],
    "headers": [5, "x", [1], {1: 2}],
    "meta": [5, {1: 2}],
    "stamps": [5, "x"],
    "stamped_headers": [5, "user", [5]],
    "retry": ["no"],
    "retry_policy": [5, "x", {"max_tries": 1}],
    "retries": ["x", -1, 1.5],
    "ignore_result": ["no"],
    "shadow": [5],
    "reply_to": [5],
    "add_to_parent": ["no"],
    "parent_id": [5],
    "root_id": [5],
    "group_id": [5],
    "group_index": ["x", -1],
    "argsrepr": [5],
    "kwargsrepr": [5],
    "replaced_task_nesting": ["x"],
    "on_conflict": ["x", 5, []],
    "producer": [5],
    "connection": ["redis://"],
}
RIGHT = {
    "task_id": ["a", ""],
    "countdown": [0, -5, 1.5, timedelta(seconds=1), 6e10],
    "eta": [datetime.now(UTC), "2030-01-01T00:00:00"],
    "expires": [5, timedelta(1), datetime.now(UTC), "2030-01-01"],
    "time_limit": [0, 5, 1.5],
    "queue": ["q", SimpleNamespace(name="q")],
    "exchange": ["", SimpleNamespace(name="x")],
    "delivery_mode": [1, 2, "transient", "persistent"],
    "stamped_headers": [[], ["user"], ("user",), {"user"}],
    "retry": [True, False, 1],
    "retry_policy": [{}, {"max_retries": 1}],
    "on_conflict": ["raise", OnConflict.RETURN],
}


@pytest.mark.parametrize("option, value", [(key, each) for key, of in WRONG.items() for each in of])
def test_wrong_value_is_refused(option, value):
    with pytest.raises(UmbelError, match=option if option != "retry_policy" else "retry") as info:
        check_values("proj.add", {option: value})
    assert isinstance(info.value, ValueError)


@pytest.mark.parametrize("option", sorted(RIGHT))
def test_right_value_is_passed(option):
    for value in (None, *RIGHT[option]):
        check_values("proj.add", {option: value})


def test_every_option_is_checked():
    held = {"link", "link_error", "chain", "chord"}
    ours = {"umbel_counted", "umbel_results"}

    assert {*WRONG, *held, *ours} == set(SEND_OPTIONS)


@pytest.mark.parametrize("option", ["link", "link_error", "chain", "chord"])
def test_what_follows_must_be_signatures(option):
    for right in (None, [], A, [A, A], A.to_dict(), [{"task": "a"}]):
        check_held("proj.add", {option: right})
    for wrong in (5, "a", [A, 5], [None]):
        with pytest.raises(InvalidTaskError, match=f"{option} must be signatures, such as other.s"):
            check_held("proj.add", {option: wrong})
    with pytest.raises(InvalidTaskError, match=f"{option} can't be read: .*'task' must be a name"):
        check_held("proj.add", {option: {}})


@pytest.mark.parametrize("option, value", [("headers", 5), ("retry_policy", 5), ("producer", 5)])
def test_call_with_a_wrong_value_is_not_sent(app, waiting, option, value):
    app.task(name="proj.add")(lambda x: x)

    with pytest.raises(InvalidTaskError, match=f"sending task 'proj.add': {option} must be"):
        app.tasks["proj.add"].apply_async((1,), **{option: value})
    assert waiting(app, "celery") == []
