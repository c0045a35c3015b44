from __future__ import annotations

import json

import pytest


@pytest.fixture
def sent(invoke, tasks):
    """Ids of three delayed tasks, the last due one sent first; the second of them in queue mail."""

    def call(*args):
        result = invoke("-A", tasks, "call", "tasks.add", *args)
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    third = call("5", "6", "--countdown=900")
    first = call("1", "2", "--countdown=300")
    second = call("3", "4", "--countdown=600", "--queue", "mail")
    call("7", "8")
    return [first, second, third]


def rows(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def listed(invoke, *args):
    return [row["id"] for row in rows(invoke("-A", "tasks", "delayed", "ls", *args, "--json"))]


def test_list_is_of_what_is_due_first(invoke, sent):
    found = rows(invoke("-A", "tasks", "delayed", "ls", "--json"))

    assert [row["id"] for row in found] == sent
    assert (found[1]["queue"], found[1]["task"], found[1]["args"]) == (
        "mail", "tasks.add", "(3, 4)",
    )  # fmt: skip
    assert found[0]["due_at"] < found[1]["due_at"]


def test_list_is_a_table_for_people(invoke, sent):
    result = invoke("-A", "tasks", "delayed", "ls", "--limit", "2")
    header, *lines = result.stdout.splitlines()

    assert header.split() == ["receipt", "id", "task", "queue", "due", "in", "arguments"]
    assert [line.split()[1] for line in lines] == sent[:2]
    assert "more than these 2" in result.stderr


def test_list_keeps_to_queue_and_task(invoke, sent):
    assert listed(invoke, "-Q", "mail") == [sent[1]]
    assert listed(invoke, "--task", "tasks.*", "-Q", "celery") == [sent[0], sent[2]]
    nothing = invoke("-A", "tasks", "delayed", "ls", "--task", "other")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "nothing is delayed that fits" in nothing.stderr


def test_promoted_task_runs_though_its_time_has_not_come(invoke, umbel, sent):
    promoted = invoke("-A", "tasks", "delayed", "promote", sent[0])
    ended = umbel("-A", "tasks", "worker", "--pool", "solo", "--burst", "-q")

    assert promoted.stdout == "promoted 1 delayed message\n"
    assert ended.code == 0, ended.stderr
    assert umbel("-A", "tasks", "result", sent[0]).stdout == "3\n"
    assert listed(invoke) == sent[1:]


def test_promote_of_all_that_fit_asks(invoke, sent):
    no = invoke("-A", "tasks", "delayed", "promote", "--all", input="n\n")
    yes = invoke("-A", "tasks", "delayed", "promote", "--all", "-Q", "celery", input="y\n")

    assert (no.exit_code, yes.exit_code) == (1, 0)
    assert "Let 3 delayed messages run now?" in no.stderr
    assert yes.stdout.endswith("promoted 2 delayed messages\n")
    assert listed(invoke) == [sent[1]]


def test_drop_names_what_it_is_about_to_drop(invoke, sent):
    no = invoke("-A", "tasks", "delayed", "drop", sent[0], input="n\n")
    yes = invoke("-A", "tasks", "delayed", "drop", sent[0], "--yes", "--json")

    assert no.exit_code == 1
    assert f"Drop tasks.add[{sent[0]}] for good?" in no.stderr
    assert rows(yes) == {"dropped": 1}
    assert listed(invoke) == sent[1:]


def test_drop_of_all_of_a_task(invoke, sent):
    result = invoke("-A", "tasks", "delayed", "drop", "--all", "--task", "tasks.add", "-y")

    assert result.stdout == "dropped 3 delayed messages\n"
    assert listed(invoke) == []


@pytest.mark.parametrize("args", [(), ("x", "--all"), ("x", "-Q", "celery")])
@pytest.mark.parametrize("verb", ["promote", "drop"])
def test_names_and_all_exclude_each_other(invoke, tasks, verb, args):
    assert invoke("-A", tasks, "delayed", verb, *args).exit_code == 2


def test_unknown_name_is_an_error_that_says_how_to_name(invoke, tasks):
    result = invoke("-A", tasks, "delayed", "promote", "nothing")

    assert result.exit_code == 1
    assert "there is no delayed message 'nothing'; name one by its task's id" in result.stderr
