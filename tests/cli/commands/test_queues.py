from __future__ import annotations

import json

import pytest


@pytest.fixture
def full(invoke, tasks):
    """Three tasks in two queues, and one that waits for its time."""
    for args in (
        ("1", "2"),
        ("3", "4"),
        ("5", "6", "--queue", "mail"),
        ("7", "8", "--countdown=60"),
    ):
        assert invoke("-A", tasks, "call", "tasks.add", *args).exit_code == 0
    return tasks


def rows(result):
    assert result.exit_code == 0, result.stderr
    return {row.pop("name"): row for row in json.loads(result.stdout)}


@pytest.mark.parametrize("args", [(), ("ls",)])
def test_depth_of_each_queue_is_listed(invoke, full, args):
    found = rows(invoke("-A", full, "queues", *args, "--json"))

    assert set(found) == {"celery", "mail"}
    assert (found["celery"]["ready"], found["celery"]["delayed"]) == (2, 1)
    assert (found["mail"]["ready"], found["mail"]["held"], found["mail"]["dead"]) == (1, 0, 0)
    assert found["mail"]["oldest_age_s"] >= 0


def test_list_is_a_table_for_people(invoke, full):
    lines = invoke("-A", full, "queues").stdout.splitlines()

    assert lines[0].split() == ["queue", "ready", "delayed", "held", "dead", "oldest", "state"]
    assert lines[1].split()[:5] == ["celery", "2", "1", "0", "0"]
    assert len(lines) == 3


def test_queue_that_nobody_used_is_listed_empty(invoke, tasks):
    assert rows(invoke("-A", tasks, "queues", "--json"))["celery"]["ready"] == 0


def test_queues_are_seen_without_an_app(invoke, full):
    assert "mail" in rows(invoke("queues", "--json"))


@pytest.mark.parametrize("word", ["queue", "queues"])
def test_paused_queues_are_marked(invoke, full, word):
    paused = invoke("-A", full, word, "pause", "mail", "later")
    found = rows(invoke("-A", full, word, "--json"))
    lines = invoke("-A", full, word, "ls").stdout.splitlines()

    assert paused.stdout == "paused mail, later\n"
    assert {name: row["paused"] for name, row in found.items()} == {
        "celery": False, "later": True, "mail": True,
    }  # fmt: skip
    assert [line.split()[-1] for line in lines[1:]] == ["-", "paused", "paused"]


def test_paused_queue_is_run_when_it_is_resumed(umbel, invoke, full):
    (row,) = json.loads(invoke("-A", full, "queue", "peek", "mail", "--json").stdout)
    invoke("-A", full, "queue", "pause", "mail")
    burst = ("-A", full, "worker", "--pool", "solo", "--burst", "-q", "-Q", "celery,mail")
    umbel(*burst)
    before = rows(invoke("-A", full, "queue", "--json"))
    resumed = invoke("-A", full, "queue", "resume", "mail", "--json")
    umbel(*burst)

    assert (before["celery"]["ready"], before["mail"]["ready"]) == (0, 1)
    assert json.loads(resumed.stdout) == {"resumed": ["mail"]}
    assert umbel("-A", full, "result", row["id"]).stdout == "11\n"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_pause_of_no_queue_is_wrong_usage(invoke, tasks, verb):
    assert invoke("-A", tasks, "queue", verb).exit_code == 2


def test_broker_that_cannot_pause_says_so(invoke, write):
    write(
        "modest.py",
        """\
from umbel import Umbel
from umbel.builtin.memory.broker import MemoryBroker
from umbel.interfaces.broker import Broker, Capability


class Modest(MemoryBroker):
    capabilities = MemoryBroker.capabilities - {Capability.PAUSE}
    pause, paused = Broker.pause, Broker.paused


class App(Umbel):
    @property
    def broker(self):
        return Modest.from_url("memory://", options={}, clock=self.clock)


app = App("modest", broker="memory://")
""",
    )
    refused = invoke("-A", "modest", "queue", "pause", "celery")

    assert refused.exit_code == 1
    assert "Modest has no capability 'pause', which this call needs" in refused.stderr
    assert rows(invoke("-A", "modest", "queue", "--json"))["celery"]["paused"] is None


def test_peek_shows_what_waits_and_takes_nothing(invoke, full):
    first = invoke("-A", full, "queues", "peek", "celery", "--json")
    second = invoke("-A", full, "queues", "peek", "celery", "--json")

    assert first.stdout == second.stdout
    assert [row["args"] for row in json.loads(first.stdout)][:2] == ["(1, 2)", "(3, 4)"]


def test_peek_keeps_to_its_limit(invoke, full):
    result = invoke("-A", full, "queues", "peek", "celery", "--limit", "1")

    header, line = result.stdout.splitlines()
    assert header.split()[:2] == ["id", "task"]
    assert "tasks.add" in line
    assert "(1, 2)" in line


def test_peek_into_an_empty_queue_says_so(invoke, tasks):
    result = invoke("-A", tasks, "queues", "peek", "nothing")

    assert (result.stdout, result.exit_code) == ("", 0)
    assert "nothing waits in queue 'nothing'" in result.stderr


def test_dead_letters_are_shown_with_their_reason(umbel, invoke, tasks):
    invoke("-A", tasks, "call", "tasks.refuse", "too hot")
    umbel("-A", tasks, "worker", "--pool", "solo", "--burst", "-q")

    (row,) = json.loads(invoke("-A", tasks, "queues", "peek", "celery", "--dead", "--json").stdout)

    assert row["task"] == "tasks.refuse"
    assert "too hot" in row["reason"]
    assert "too hot" in invoke("queues", "peek", "celery", "--dead").stdout


def test_purge_asks_and_tells_how_many(invoke, full):
    result = invoke("-A", full, "purge", input="y\n")

    assert result.exit_code == 0
    assert "celery (3)" in result.stderr
    assert result.stdout.endswith("dropped 3 messages from celery\n")
    assert rows(invoke("-A", full, "queues", "--json"))["mail"]["ready"] == 1


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_purge_without_a_yes_drops_nothing(invoke, full, answer):
    result = invoke("-A", full, "purge", input=answer)

    assert result.exit_code == 1
    assert rows(invoke("-A", full, "queues", "--json"))["celery"]["ready"] == 2


def test_purge_takes_the_queues_named(invoke, full):
    result = invoke("-A", full, "purge", "-f", "-Q", "celery,mail", "-X", "celery", "--json")

    assert json.loads(result.stdout) == {"mail": 1}


def test_purge_of_no_queue_is_wrong_usage(invoke, full):
    assert invoke("-A", full, "purge", "-f", "-X", "celery").exit_code == 2


def test_revoked_task_does_not_run(umbel, invoke, full):
    (first, *_) = json.loads(invoke("-A", full, "queues", "peek", "celery", "--json").stdout)

    revoked = invoke("-A", full, "revoke", first["id"], "--json")
    umbel("-A", full, "worker", "--pool", "solo", "--burst", "-q")
    result = invoke("-A", full, "result", first["id"], "--json")

    assert json.loads(revoked.stdout)["revoked"] == [first["id"]]
    assert (json.loads(result.stdout)["state"], result.exit_code) == ("REVOKED", 1)


def test_revoke_with_an_unheard_of_signal_is_refused(invoke, tasks):
    result = invoke("-A", tasks, "revoke", "x", "--terminate", "--signal", "SIGNOTHING")

    assert result.exit_code == 4
    assert "SIGNOTHING" in result.stderr
