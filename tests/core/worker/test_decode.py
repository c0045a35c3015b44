from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umbel import Umbel
from umbel.messages import Delivery, Malformed, Message
from umbel.outcomes import Failure, Rejected
from umbel.worker.decode import UNKNOWN_TASK_DELIVERIES, Decoder
from umbel.worker.jobs import Job, Settlement

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def add(app: Umbel) -> None:
    app.task(name="add")(lambda x, y: x + y)


def refusal(app: Umbel, delivery: Delivery) -> str:
    decoded = Decoder(app, "w@host").decode(delivery)
    assert isinstance(decoded, Settlement)
    assert isinstance(decoded.outcome, Rejected)
    assert not decoded.outcome.requeue
    return decoded.outcome.reason


def test_a_request_has_what_the_message_says(job: Callable[..., Job]) -> None:
    made = job("add", 2, 3, headers={"retries": 2, "my": "own"}, priority=7)

    request = made.request
    assert (request.task, list(request.args), request.kwargs) == ("add", [2, 3], {})
    assert request.retries == 2
    assert request.headers["my"] == "own"
    assert request.delivery_info == {
        "exchange": "",
        "routing_key": "celery",
        "priority": 7,
        "redelivered": False,
    }
    assert request.root_id == request.id
    assert not request.called_directly


def test_limits_of_the_message_win_over_those_of_the_task(
    app: Umbel, job: Callable[..., Job]
) -> None:
    app.task(name="limited", time_limit=60, soft_time_limit=50)(lambda: None)

    assert (job("limited").hard_limit_s, job("limited").soft_limit_s) == (60, 50)
    given = job("limited", headers={"timelimit": [6, 5]})
    assert (given.hard_limit_s, given.soft_limit_s) == (6, 5)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"body": b"not json"}, "JSON"),
        ({"body": b'{"a": 1}'}, "list of arguments"),
        ({"body": b"[[], {}]"}, "list of arguments"),
        ({"body": b"[1, {}, {}]"}, "arguments must be a list"),
        ({"body": b"[[], [], {}]"}, "keyword arguments"),
        ({"body": b'[[], {}, {"chain": 5}]'}, "malformed embed"),
        ({"content_type": "application/x-python-serialize"}, "isn't accepted"),
        ({"headers": {"eta": "tomorrow"}}, "header 'eta'"),
        ({"headers": {"expires": "1e99"}}, "header 'expires'"),
        ({"headers": {"retries": "many"}}, "retries"),
        ({"headers": {"timelimit": "short"}}, "timelimit"),
        ({"headers": {"id": 5}}, "id"),
        ({"headers": {"compression": "application/x-gzip"}}, "zip"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(
    app: Umbel, deliver: Callable[..., Delivery], changes: dict[str, Any], named: str
) -> None:
    assert named in refusal(app, deliver("add", 1, 2, **changes))


def test_what_the_broker_cannot_read_is_refused_with_its_reason(app: Umbel) -> None:
    delivery = Delivery(
        message=Malformed(raw=b"\x00", reason="headers are not JSON"), queue="q", receipt="r"
    )

    assert "headers are not JSON" in refusal(app, delivery)


def test_a_body_over_the_bound_is_not_decoded(app: Umbel, deliver: Callable[..., Delivery]) -> None:
    delivery = deliver("add", "x" * 2000, 1)
    app.conf.update(task_message_max_bytes=1024)

    assert "task_message_max_bytes" in refusal(app, delivery)


def test_an_unknown_task_is_held_with_growing_delays_and_then_fails(
    app: Umbel, deliver: Callable[..., Delivery]
) -> None:
    decoder = Decoder(app, "w@host")
    outcomes = []
    for token in range(1, UNKNOWN_TASK_DELIVERIES + 1):
        decoded = decoder.decode(deliver("nobody.knows", token=token))
        assert isinstance(decoded, Settlement)
        outcomes.append(decoded.outcome)

    *held, last = outcomes
    delays = [each.delay_s for each in held if isinstance(each, Rejected) and each.requeue]
    assert len(delays) == len(held)
    assert delays == sorted(delays)
    assert isinstance(last, Failure)
    assert last.dead_letter == "unknown task 'nobody.knows'"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.dictionaries(st.text(), JSON) | JSON, body=st.binary() | JSON)
def test_nothing_that_arrives_raises(app: Umbel, headers: Any, body: Any) -> None:
    message = Message(id="i", task="add", headers=headers, body=body)
    decoded = Decoder(app, "w@host").decode(Delivery(message=message, queue="celery", receipt="r"))

    assert isinstance(decoded, (Job, Settlement))
