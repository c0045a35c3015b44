"""What a node does when it is told to, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import BackendUnavailableError, ConfigError
from umbel.inspection import REPLY_PREFIX
from umbel.messages import Malformed, Message
from umbel.worker.answers import Answers
from umbel.worker.commands import Commands
from umbel.worker.identity import Identity
from umbel.worker.node import ControlMessage
from umbel.worker.rate_table import RateTable
from umbel.worker.views import Held, Process


class Sight:
    """A node that is said to hold this."""

    slots = 2

    def __init__(self) -> None:
        self.runs: list[Held] = []
        self.waits: list[Held] = []

    def processes(self) -> list[Process]:
        return [Process(7, 20), Process(8, 3)]

    def running(self) -> list[Held]:
        return self.runs

    def reserved(self) -> list[Held]:
        return self.waits


class Node:
    """The commands of a node, and what they did."""

    def __init__(self, app: Umbel, **more: Any):
        self.app, self.sight, self.rates = app, Sight(), RateTable()
        #: Ids, and whether what descends from them is to end, too.
        self.ended: list[tuple[list[str], bool]] = []
        self.refreshed = 0
        identity = Identity(node="n", consumer="n/0", hostname="w@h", lease_s=5.0)
        answers = Answers(
            app,
            identity,
            pool="process",
            queues=["a", "b"],
            view=self.sight,
            rates=self.rates,
            coordinator=app.coordinator,
        )
        self.commands = Commands(
            app,
            answers,
            self.rates,
            coordinator=app.coordinator,
            note_revokes=self._refresh,
            terminate=lambda *what: self.ended.append(what),
            more=more,
        )

    def _refresh(self) -> None:
        self.refreshed += 1

    def tell(self, method: str, **arguments: Any) -> Any:
        """Return the node's answer."""
        channel = f"{REPLY_PREFIX}test"
        subscription = self.app.coordinator.subscribe([channel])
        self.commands.obey(ControlMessage(method, arguments, reply_to=channel, ticket="1"))
        ((_, payload),) = subscription.poll(timeout_s=0)
        subscription.close()
        reply = json.loads(payload)
        assert (reply["ticket"], reply["hostname"]) == ("1", "w@h")
        return reply["reply"]


@pytest.fixture
def node(app: Umbel) -> Node:
    app.task(name="t", rate_limit="3/s", aliases=["old"])(lambda: None)
    app.task(name="free", queue="slow")(lambda: None)
    made = Node(app)
    made.rates.declare("t", 3.0)
    return made


# -- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,ended",
    [
        ({"task_id": "a", "terminate": True}, [(["a"], True)]),
        ({"task_id": ["a", 3], "terminate": True}, [(["a", "3"], True)]),
        ({"task_id": "a", "terminate": True, "descendants": False}, [(["a"], False)]),
        ({"task_id": ["a"], "terminate": False}, []),
        ({"task_id": 7, "terminate": True}, []),
        ({"task_id": None, "terminate": True}, []),
        ({"terminate": True}, []),
        ({}, []),
    ],
)
def test_revoke_is_noted_and_ends_whom_it_says(
    node: Node, arguments: dict[str, Any], ended: list[tuple[list[str], bool]]
) -> None:
    assert "flagged as revoked" in node.tell("revoke", **arguments)["ok"]

    assert node.refreshed == 1
    assert node.ended == ended


def test_unknown_command_is_answered_with_those_there_are(node: Node) -> None:
    answer = node.tell("pin")

    assert "w@h knows no command 'pin'; did you mean 'ping'?" in answer["error"]
    assert "reserved" in answer["error"]


def test_command_that_fails_is_answered_with_its_error(app: Umbel) -> None:
    def fails(_arguments: Any) -> None:
        raise ZeroDivisionError("a bug")

    def refuses(_arguments: Any) -> None:
        raise ConfigError("not here")

    node = Node(app, fails=fails, refuses=refuses)

    assert node.tell("fails") == {"error": "ZeroDivisionError: a bug"}
    assert node.tell("refuses") == {"error": "not here"}


@pytest.mark.parametrize(
    "reply_to,ticket", [(None, "1"), (f"{REPLY_PREFIX}x", None), ("control", "1"), ("events", "1")]
)
def test_nothing_is_said_where_no_answer_belongs(
    app: Umbel, node: Node, reply_to: str | None, ticket: str | None
) -> None:
    channels = ["control", "events", f"{REPLY_PREFIX}x"]
    subscription = app.coordinator.subscribe(channels)

    node.commands.obey(ControlMessage("ping", reply_to=reply_to, ticket=ticket))

    assert subscription.poll(timeout_s=0) == []
    subscription.close()


# -- rate limits ------------------------------------------------------------------------------


def test_rate_limit_is_in_force_at_once(node: Node) -> None:
    assert node.tell("rate_limit", task_name="t", rate_limit="7/s") == {
        "ok": "rate limit of t is 7/s"
    }
    assert node.rates.limit("t") == 7.0

    assert node.tell("rate_limit", task_name="t", rate_limit=0) == {"ok": "t has no rate limit"}
    assert node.rates.limit("t") == 0.0

    assert "as its code says" in node.tell("rate_limit", task_name="t", rate_limit=None)["ok"]
    assert node.rates.limit("t") == 3.0


def test_old_name_limits_the_task_that_has_it(node: Node) -> None:
    node.tell("rate_limit", task_name="old", rate_limit=9)

    assert node.rates.limit("t") == 9.0


@pytest.mark.parametrize(
    "arguments,why",
    [
        ({"task_name": "nope", "rate_limit": 1}, "there is no task 'nope' here"),
        ({"task_name": 5, "rate_limit": 1}, "there is no task 5 here"),
        ({"rate_limit": 1}, "there is no task None here"),
        ({"task_name": "t", "rate_limit": "often"}, "'often' is no rate"),
        ({"task_name": "t", "rate_limit": [1]}, "is no rate"),
    ],
)
def test_rate_limit_that_makes_no_sense_changes_nothing(
    node: Node, arguments: dict[str, Any], why: str
) -> None:
    assert why in node.tell("rate_limit", **arguments)["error"]
    assert node.rates.limit("t") == 3.0


def test_kept_rate_limits_are_read_at_the_start(app: Umbel, node: Node) -> None:
    app.control.rate_limit("t", "60/m")
    app.control.rate_limit("free", "2/s")
    app.control.rate_limit("of another release", "2/s")
    node.commands.read_rates()

    assert (node.rates.limit("t"), node.rates.limit("free")) == (1.0, 2.0)


def test_rate_limit_that_was_taken_back_while_nobody_listened_is_gone(
    app: Umbel, node: Node
) -> None:
    app.control.rate_limit("t", "60/m")
    node.commands.read_rates()
    app.control.rate_limit("t", "reset")
    node.commands.obey(ControlMessage("refresh"))

    assert node.rates.limit("t") == 3.0


def test_rate_limit_of_this_node_alone_outlives_a_refresh(app: Umbel, node: Node) -> None:
    app.control.rate_limit("t", "60/m")
    node.tell("rate_limit", task_name="t", rate_limit="5/s")
    node.commands.obey(ControlMessage("refresh"))
    assert node.rates.limit("t") == 5.0

    node.tell("rate_limit", task_name="t", rate_limit=None)
    assert node.rates.limit("t") == 1.0


def test_kept_rate_limit_that_is_none_is_passed_over(
    app: Umbel, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    app.coordinator.put("rate_limit/t", b"\xff often")
    app.coordinator.put("rate_limit/free", b"2/s")
    node.commands.read_rates()

    assert (node.rates.limit("t"), node.rates.limit("free")) == (3.0, 2.0)
    assert "kept for task t is passed over" in caplog.text


def test_outage_of_the_coordinator_leaves_rate_limits_as_they_are(
    app: Umbel, node: Node, fault: Callable[..., Any]
) -> None:
    app.control.rate_limit("t", "60/m")
    node.commands.read_rates()
    fault(app.coordinator, "scan", error=BackendUnavailableError("gone"))
    node.commands.read_rates()

    assert node.rates.limit("t") == 1.0


def test_node_without_rate_limits_says_so(app: Umbel, node: Node) -> None:
    app.conf.update(worker_disable_rate_limits=True)

    answer = node.tell("rate_limit", task_name="t", rate_limit=1)
    assert "worker_disable_rate_limits is set" in answer["error"]


# -- answers ----------------------------------------------------------------------------------


@pytest.fixture
def held(message: Callable[..., Message]) -> Callable[..., Held]:
    def make(name: str, *args: Any, headers: dict[str, Any] | None = None, **more: Any) -> Held:
        return Held(
            message=message(name, *args, headers=headers),
            queue="a",
            is_redelivered=False,
            pid=7,
            **more,
        )

    return make


def test_what_runs_is_shown(app: Umbel, node: Node, held: Callable[..., Held]) -> None:
    node.sight.runs = [held("t", begun_at=app.clock.monotonic() - 3, is_acked=True)]

    (row,) = node.tell("active")
    assert (row["name"], row["args"], row["kwargs"]) == ("t", "()", "{}")
    assert row["time_start"] == pytest.approx(app.clock.time() - 3, abs=1)
    assert (row["worker_pid"], row["hostname"], row["acknowledged"]) == (7, "w@h", True)
    assert row["delivery_info"]["queue"] == "a"


def test_what_waits_is_shown_without_a_beginning(node: Node, held: Callable[..., Held]) -> None:
    node.sight.waits = [held("t")]

    (row,) = node.tell("reserved")
    assert (row["name"], row["time_start"], row["acknowledged"]) == ("t", None, False)


@pytest.mark.parametrize("text", [None, 7, ["x"], "x" * 1_000_000])
def test_hostile_headers_are_shown_short_or_not_at_all(
    node: Node, held: Callable[..., Held], text: Any
) -> None:
    node.sight.waits = [held("t", headers={"argsrepr": text, "kwargsrepr": text})]

    (row,) = node.tell("reserved")
    assert row["args"] is None or len(row["args"]) <= 1024


def test_message_that_cannot_be_read_is_shown(node: Node) -> None:
    broken = Malformed(raw=b"\xff", reason="no JSON")
    node.sight.waits = [Held(message=broken, queue="a", is_redelivered=True, pid=7)]

    (row,) = node.tell("reserved")
    assert (row["id"], row["name"]) == (None, None)
    assert row["delivery_info"] == {"queue": "a", "redelivered": True}


def test_long_lists_are_cut(node: Node, held: Callable[..., Held]) -> None:
    node.sight.waits = [held("t")] * 5000

    assert len(node.tell("reserved")) == 2000


def test_stats_count_processes_and_what_they_ran(node: Node) -> None:
    stats = node.tell("stats")

    assert stats["done"] == 23
    assert stats["pool"]["processes"] == [7, 8]
    assert stats["pool"]["max-concurrency"] == 4
    assert stats["rate_limits"] == {"t": 3.0}


def test_registered_names_tasks_with_the_options_asked_for(node: Node) -> None:
    assert node.tell("registered") == ["free", "t"]
    assert node.tell("registered", taskinfoitems=["rate_limit", "queue"]) == [
        "free [queue=slow]",
        "t [rate_limit=3/s]",
    ]


def test_revoked_ids_are_those_of_the_coordinator(app: Umbel, node: Node) -> None:
    app.control.revoke(["b", "a"])

    assert node.tell("revoked") == ["a", "b"]


def test_queues_and_what_is_scheduled(node: Node) -> None:
    assert [each["name"] for each in node.tell("active_queues")] == ["a", "b"]
    assert node.tell("scheduled") == []


def test_conf_shows_no_password() -> None:
    with Umbel(
        "x",
        broker="memory://",
        coordinator_url="memory://",
        broker_transport_options={"password": "hunter2"},
        task_routes=[lambda name: None],
    ) as app:
        conf = Node(app).tell("conf")

    assert "hunter2" not in json.dumps(conf)
    assert conf["broker_url"] == "memory://"
    assert "task_acks_late" not in conf
