import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umbel import Umbel
from umbel.messages import Delivery, Malformed, Message
from umbel.outcomes import Rejected
from umbel.worker.admission import admit
from umbel.worker.decode import Decoder
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


def test_a_limit_of_0_is_none_as_in_celery(app: Umbel, job: Callable[..., Job]) -> None:
    app.task(name="limited", time_limit=60, soft_time_limit=50)(lambda: None)

    given = job("limited", headers={"timelimit": [0, 0]})
    assert (given.hard_limit_s, given.soft_limit_s) == (60, 50)


@pytest.mark.parametrize("encoding", ["UTF-8", "us-ascii", "binary", ""])
def test_names_of_what_is_utf_8_anyway_are_taken(
    app: Umbel, deliver: Callable[..., Delivery], encoding: str
) -> None:
    assert isinstance(
        Decoder(app, "w@host").decode(deliver("add", 1, 2, content_encoding=encoding)), Job
    )


def test_a_reason_is_cut_short_however_long_the_name_in_it(
    app: Umbel, deliver: Callable[..., Delivery]
) -> None:
    assert len(refusal(app, deliver("add", headers={"id": "x" * 10**6, "retries": -1}))) <= 1000
    body = b'[[], {}, {"chain": [{"task": "' + b"x" * 10**6 + b'", "args": 1}]}]'
    assert len(refusal(app, deliver("add", body=body))) <= 1000


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
        ({"headers": {"retries": -1}}, "retries"),
        ({"headers": {"retries": 2**63}}, "retries"),
        ({"headers": {"timelimit": "short"}}, "timelimit"),
        ({"headers": {"timelimit": [-1, None]}}, "timelimit"),
        ({"headers": {"timelimit": [None, 1e300]}}, "timelimit"),
        ({"content_encoding": "rot13"}, "content encoding 'rot13' isn't known"),
        ({"body": b'[[1, 2], {}, {"chain": [5]}]'}, "malformed embed: a signature must be"),
        ({"body": b'[[1, 2], {}, {"callbacks": [{"task": ""}]}]'}, "malformed embed"),
        ({"body": b'[[1, 2], {}, {"errbacks": [{"task": "t", "args": 1}]}]'}, "malformed embed"),
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


def test_an_unknown_task_is_held(app: Umbel, deliver: Callable[..., Delivery]) -> None:
    decoded = Decoder(app, "w@host").decode(deliver("nobody.knows"))

    assert isinstance(decoded, Settlement)
    assert isinstance(decoded.outcome, Rejected)
    assert decoded.outcome.requeue


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.dictionaries(st.text(), JSON) | JSON, body=st.binary() | JSON)
def test_nothing_that_arrives_raises(app: Umbel, headers: Any, body: Any) -> None:
    message = Message(id="i", task="add", headers=headers, body=body)
    decoded = Decoder(app, "w@host").decode(Delivery(message=message, queue="celery", receipt="r"))

    assert isinstance(decoded, (Job, Settlement))


ANYTHING = (
    JSON | st.binary(max_size=20) | st.just(float("nan")) | st.just(2**70) | st.text("\ud800")
)
FIELDS = st.sampled_from(
    [
        "task",
        "id",
        "root_id",
        "parent_id",
        "group",
        "group_index",
        "retries",
        "eta",
        "expires",
        "timelimit",
        "ignore_result",
        "origin",
        "shadow",
        "argsrepr",
        "stamped_headers",
        "stamps",
        "compression",
        "umbel_keep_result",
    ]
)
BODIES = st.tuples(
    JSON,
    JSON,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("callbacks", "errbacks", "chain", "chord"),
            JSON | st.lists(st.fixed_dictionaries({"task": JSON})),
        ),
    ),
)


@given(
    headers=st.dictionaries(FIELDS, ANYTHING),
    body=BODIES,
    content_type=st.just("application/json") | st.text(),
    encoding=st.just("utf-8") | st.text(),
    counts=st.tuples(st.integers(), st.integers(), st.integers()),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_almost_right_raises(
    app: Umbel,
    headers: dict[str, Any],
    body: Any,
    content_type: str,
    encoding: str,
    counts: tuple[int, int, int],
) -> None:
    message = Message(
        id="i",
        task="add",
        headers={"task": "add", "id": "i", **headers},
        body=json.dumps(body).encode(),
        content_type=content_type,
        content_encoding=encoding,
        priority=counts[0],
    )
    decoded = Decoder(app, "w@host").decode(
        Delivery(message=message, queue="celery", receipt="r", token=counts[1], strikes=counts[2])
    )

    assert isinstance(decoded, (Job, Settlement))
    if isinstance(decoded, Job):
        admit(decoded, now=0.0, revoked=False, max_deliveries=3)
        assert decoded.request.task == "add"
        assert decoded.request.retries >= 0


@given(raw=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_raw_bytes_in_a_queue_come_out_refused(app: Umbel, raw: bytes) -> None:
    broker = app.broker
    broker.send_raw("celery", raw)  # type: ignore[attr-defined]
    (delivery,) = broker.receive(["celery"], max_messages=10, wait_s=0)
    assert isinstance(Decoder(app, "w@host").decode(delivery), Settlement)
    assert broker.ack([delivery]) == []
