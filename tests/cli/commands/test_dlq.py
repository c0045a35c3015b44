from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.messages import Burial, DeathKind, Malformed, Message
from umbel_testing.samples import message


@pytest.fixture
def app(own_folder):
    with Umbel("tests") as made:
        yield made


@pytest.fixture
def bury(app):
    """Bury a message; returns its letter."""
    broker = app.broker
    broker.join("node", "consumer", lease_s=1e6)

    def of(reason="no", *, kind=DeathKind.FAILED, details=None, queue="celery", **changes):
        broker.send([message(queue, **changes)])
        (delivery,) = broker.receive([queue], max_messages=1, wait_s=5)
        broker.bury([Burial(delivery, reason, kind, details or {})])
        return broker.dead_letters(limit=1)[0]

    return of


@pytest.fixture
def damaged(app, bury):
    """A letter that can't be read."""
    import sqlite3

    letter = bury()
    cx = sqlite3.connect(".umbel/umbel.db", isolation_level=None)
    cx.execute("UPDATE dead_letters SET headers = x'7b1b5b333171', kind = 'malformed'")
    cx.close()
    (found,) = app.broker.dead_letters()
    assert isinstance(found.message, Malformed)
    assert found.receipt == letter.receipt
    return found


@pytest.fixture
def editor(monkeypatch, write):
    """Make $EDITOR a program that replaces text in what it is given to edit."""

    def replacing(old, new, *, save=True):
        script = write(
            "edit.py",
            "import sys, pathlib\n"
            "path = pathlib.Path(sys.argv[1])\n"
            f"text = path.read_text().replace({old!r}, {new!r})\n"
            f"print(text, file=open('seen', 'w'))\n"
            + ("path.write_text(text)\nimport os; os.utime(path, (1, 1))\n" if save else ""),
        )
        monkeypatch.setenv("VISUAL", shlex.join([sys.executable, str(script)]))

    return replacing


def rows(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def waiting(app, queue="celery"):
    return [each for each in app.broker.peek(queue, limit=1000) if isinstance(each, Message)]


def ids(letters):
    return [letter.message.id for letter in letters]


# -- ls -----------------------------------------------------------------------------------------


def test_letters_are_listed_newest_first(invoke, bury):
    bury("failed: cold", id="first-1", task="shop.bill")
    bury("too hot", id="second-2", kind=DeathKind.POISON)

    found = rows(invoke("dlq", "ls", "--json"))

    assert [row["id"] for row in found] == ["second-2", "first-1"]
    assert found[1] == {
        "receipt": "1",
        "id": "first-1",
        "task": "shop.bill",
        "queue": "celery",
        "kind": "failed",
        "reason": "failed: cold",
        "died_at": found[1]["died_at"],
        "deliveries": 1,
        "args": "(2, 3)",
        "kwargs": "{}",
    }


def test_list_is_a_table_for_people(invoke, bury):
    bury("failed:\n\x1b[31mred " + "x" * 100, id="first-1")

    head, line = invoke("dlq", "ls").stdout.splitlines()

    assert head.split() == ["receipt", "id", "task", "queue", "kind", "died", "reason"]
    assert line.split()[:5] == ["1", "first-1", "kit.add", "celery", "failed"]
    assert "\x1b" not in line
    assert r"failed: \x1b[31mred xxx" in line
    assert line.endswith("x…")


@pytest.mark.parametrize(
    "options,expected",
    [
        ((), ["c-3", "b-2", "a-1"]),
        (("--queue", "mail"), ["b-2"]),
        (("--task", "shop.*"), ["b-2", "a-1"]),
        (("--kind", "poison"), ["c-3"]),
        (("--reason", "COLD"), ["a-1"]),
        (("--older-than", "1h"), []),
        (("--newer-than", "1h"), ["c-3", "b-2", "a-1"]),
        (("--newer-than", "2031-05-06"), []),
        (("--limit", "2"), ["c-3", "b-2"]),
    ],
)
def test_list_is_filtered(invoke, bury, options, expected):
    bury("so cold", id="a-1", task="shop.bill")
    bury("so hot", id="b-2", task="shop.ship", queue="mail")
    bury("so hot", id="c-3", kind=DeathKind.POISON)

    assert [row["id"] for row in rows(invoke("dlq", "ls", *options, "--json"))] == expected


def test_a_list_that_is_cut_off_says_so(invoke, bury):
    for _ in range(3):
        bury()

    result = invoke("dlq", "ls", "--limit", "2")

    assert len(result.stdout.splitlines()) == 3
    assert "there are more than these 2" in result.stderr


def test_no_letters_is_no_error(invoke, app):
    result = invoke("dlq", "ls")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead letters\n")
    assert rows(invoke("dlq", "ls", "--json")) == []


@pytest.mark.parametrize("option", [("--kind", "odd"), ("--older-than", "soon"), ("--limit", "0")])
def test_a_filter_that_makes_no_sense_is_wrong_usage(invoke, app, option):
    assert invoke("dlq", "ls", *option).exit_code == 2


# -- show ---------------------------------------------------------------------------------------


def test_all_that_is_known_of_one_is_shown(invoke, bury):
    attempts = [
        {"at": 0, "exit": None, "signal": "SIGSEGV", "pid": 7, "hostname": "w@h"}
        | {"memory_bytes": 52_428_800},
        {"at": 10, "exit": 9, "signal": None, "pid": 8, "hostname": "w@h", "memory_bytes": None},
    ]
    headers = message("q").headers | {"retries": 2, "umbel_attempts_before": 3, "umbel_replays": 1}
    letter = bury(
        "it died",
        kind=DeathKind.POISON,
        headers=headers | {"parent_id": "mother", "x-own": "\x1b]0;"},
        details={"attempts": attempts, "exception": {"traceback": "Traceback: here"}, "more": 1},
    )

    document = rows(invoke("dlq", "show", letter.message.id, "--json"))
    text = invoke("dlq", "show", letter.receipt).stdout

    assert document["args"] == [2, 3]
    assert (document["retries"], document["attempts_before"], document["replays"]) == (2, 3, 1)
    assert document["lineage"]["parent_id"] == "mother"
    assert document["details"]["attempts"] == attempts
    for expected in (
        "it died", "poison", "[2, 3]", "mother", "SIGSEGV", "50 MiB", "1970-01-01T00:00:10",
        "Traceback: here", "x-own", r"\x1b]0;",
    ):  # fmt: skip
        assert expected in text
    assert "\x1b" not in text


def test_arguments_that_no_worker_would_decode_are_not_decoded(invoke, bury):
    letter = bury(body=b"\x80\x04.", content_type="application/x-python-serialize")

    document = rows(invoke("dlq", "show", letter.receipt, "--json"))

    assert document["args"] is None
    assert "isn't accepted" in document["undecoded"]
    assert "isn't accepted" in invoke("dlq", "show", letter.receipt).stdout


def test_a_malformed_letter_is_shown_as_far_as_it_goes(invoke, damaged):
    document = rows(invoke("dlq", "show", damaged.receipt, "--json"))
    text = invoke("dlq", "show", damaged.receipt).stdout

    assert document["raw"] == "{\x1b[31q"
    assert "headers are not a JSON object" in text
    assert "\x1b" not in text
    assert "malformed" in invoke("dlq", "ls").stdout


@pytest.mark.parametrize("command", ["show", "replay", "drop"])
def test_a_name_of_no_letter_is_an_error(invoke, bury, command):
    bury(id="abcd-1")
    bury(id="abcd-2")

    missing, several = invoke("dlq", command, "nobody"), invoke("dlq", command, "abcd")

    assert (missing.exit_code, several.exit_code) == (1, 1)
    assert "no dead letter 'nobody'" in missing.stderr
    assert "'abcd' stands for 2 dead letters" in several.stderr
    assert len(rows(invoke("dlq", "ls", "--json"))) == 2


# -- replay -------------------------------------------------------------------------------------


def test_named_letters_are_replayed_without_a_question(invoke, app, bury):
    first, second, third = bury(), bury(), bury()

    result = invoke("dlq", "replay", first.message.id[:30] + first.message.id[30:], second.receipt)

    assert (result.exit_code, result.stdout) == (0, "replayed 2 dead letters\n")
    assert [each.id for each in waiting(app)] == ids([first, second])
    assert list(app.dead_letters) == [third]


def test_all_that_fit_are_replayed_after_a_question(invoke, app, bury):
    stays = bury("cold")
    bury("hot")
    bury("hot")

    no = invoke("dlq", "replay", "--all", "--reason", "hot", input="n\n")
    assert (no.exit_code, len(waiting(app))) == (1, 0)
    assert "Send 2 dead letters again?" in no.stderr
    yes = invoke("dlq", "replay", "--all", "--reason", "hot", input="y\n")
    assert (yes.exit_code, len(waiting(app))) == (0, 2)
    assert list(app.dead_letters) == [stays]


def test_nobody_is_asked_with_yes_nor_for_a_dry_run(invoke, app, bury):
    bury()
    bury()

    dry = invoke("dlq", "replay", "--all", "-n")
    assert (dry.exit_code, dry.stdout) == (0, "would replay 2 dead letters\n")
    assert waiting(app) == []
    assert rows(invoke("dlq", "replay", "--all", "--yes", "--rate", "100/s", "--json")) == {
        "replayed": 2,
        "gone": 0,
        "unreadable": 0,
        "dry_run": False,
    }
    assert len(waiting(app)) == 2


def test_what_cannot_be_read_is_told_and_stays(invoke, app, damaged, bury):
    bury()

    result = invoke("dlq", "replay", "--all", "--yes")

    assert (result.exit_code, result.stdout) == (1, "replayed 1 dead letter\n")
    assert "1 dead letter can't be read" in result.stderr
    assert app.dead_letters.count() == 1
    named = invoke("dlq", "replay", damaged.receipt)
    assert named.exit_code == 1
    assert "say what to send in its place" in named.stderr


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--task", "x"),
        ("1", "--all"),
        ("1", "--task", "x"),
        ("1", "2", "--edit"),
        ("--all", "--edit"),
        ("1", "--rate", "fast"),
    ],
    ids=" ".join,
)
def test_replaying_what_is_not_clear_is_wrong_usage(invoke, app, bury, args):
    bury()
    bury()

    assert invoke("dlq", "replay", *args).exit_code == 2
    assert waiting(app) == []


def test_arguments_are_edited_in_the_editor(invoke, app, bury, editor):
    letter = bury()
    editor('"kwargs": {}', '"kwargs": {"z": {"__type__": "bytes", "__value__": "x"}}')

    result = invoke("dlq", "replay", "--edit", letter.receipt)

    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("seen").read_text())["args"] == [2, 3]
    (again,) = waiting(app)
    assert again.id == letter.message.id
    assert app.serializer("json").loads(again.body)[:2] == [[2, 3], {"z": b"x"}]


def test_a_malformed_letter_becomes_what_is_written_in_the_editor(invoke, app, damaged, editor):
    editor('"task": ""', '"task": "kit.add"')

    assert invoke("dlq", "replay", "--edit", damaged.receipt).exit_code == 0
    (again,) = waiting(app)
    assert (again.task, again.body[:6]) == ("kit.add", b"[[],{}")


def test_an_editor_that_saves_nothing_replays_nothing(invoke, app, bury, editor):
    letter = bury()
    editor("", "", save=False)

    result = invoke("dlq", "replay", "--edit", letter.receipt)

    assert result.exit_code == 1
    assert "nothing was saved" in result.stderr
    assert app.dead_letters.count() == 1


@pytest.mark.parametrize("new", ["nonsense", '"args": 5', '"more": [], "args": ['])
def test_what_was_edited_wrongly_may_be_edited_again(invoke, app, bury, editor, new):
    letter = bury()
    editor('"args": [', new)

    result = invoke("dlq", "replay", "--edit", letter.receipt, input="n\n")

    assert result.exit_code == 1
    assert "this can't be sent" in result.stderr
    assert app.dead_letters.count() == 1


# -- drop ---------------------------------------------------------------------------------------


def test_a_named_letter_is_dropped_after_a_question(invoke, app, bury):
    letter, stays = bury(id="abcd-1"), bury()

    no = invoke("dlq", "drop", letter.receipt, input="n\n")
    assert (no.exit_code, app.dead_letters.count()) == (1, 2)
    assert "Drop 1 dead letter (kit.add[abcd-1]) for good?" in no.stderr
    yes = invoke("dlq", "drop", letter.receipt, "-y")
    assert (yes.exit_code, yes.stdout) == (0, "dropped 1 dead letter\n")
    assert list(app.dead_letters) == [stays]


def test_all_that_fit_are_dropped(invoke, app, bury):
    stays = bury("cold")
    bury("hot")

    assert rows(invoke("dlq", "drop", "--all", "--reason", "hot", "--yes", "--json")) == {
        "dropped": 1
    }
    assert list(app.dead_letters) == [stays]
    assert waiting(app) == []


def test_dead_letters_of_a_worker_are_told_with_their_task(umbel, invoke, tasks):
    task_id = invoke("-A", tasks, "call", "tasks.refuse", "too hot").stdout.strip()
    umbel("-A", tasks, "worker", "--pool", "solo", "--burst", "-q")

    (row,) = rows(invoke("-A", tasks, "dlq", "ls", "--json"))
    assert (row["id"], row["kind"], row["reason"]) == (task_id, "rejected", "too hot")
