from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import sqlite_version_1

from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.database import Database
from umbel.builtin.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import BrokerError
from umbel.messages import Burial, DeathKind
from umbel.outcomes import ChordPart, ChordProgress
from umbel_testing.samples import message


def make(path, *statements):
    cx = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        cx.execute(statement)
    cx.close()
    return path.read_bytes()


def test_new_file_is_marked_as_umbels(broker, query):
    broker.check()

    assert query("PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert query("PRAGMA journal_mode") == [("wal",)]


def test_empty_file_is_adopted(broker, path):
    path.touch()
    broker.send([message("q")])

    assert broker.stats("q").ready == 1


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE users (name)", "INSERT INTO users VALUES ('ann')"],
        ["PRAGMA application_id = 5"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE users (name)"],
        ["CREATE TABLE messages (id, queue, body)"],
    ],
)
def test_file_of_another_program_is_refused_and_left_as_it_was(broker, path, statements):
    before = make(path, *statements)

    for call in (broker.check, lambda: broker.send([message("q")]), lambda: broker.stats("q")):
        with pytest.raises(BrokerError, match="another program; give umbel another path"):
            call()
    broker.close()
    assert path.read_bytes() == before


def test_file_of_a_newer_umbel_is_refused_and_left_as_it_was(broker, path):
    before = make(
        path,
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION + 1}",
    )

    with pytest.raises(BrokerError, match=r"newer umbel.*upgrade umbel"):
        broker.check()
    broker.close()
    assert path.read_bytes() == before


@pytest.fixture
def old_file(path):
    """A file that umbel made while its schema had version 1, with something in each table."""
    headers = msgspec.json.encode(message("q").headers)
    dead = [
        ("died", "its process died 3 times while running it", "poison"),
        ("unknown", "unknown task 'kit.add'", "unknown"),
        ("failed", "failed: ValueError('no')", "failed"),
        ("refused", "its outcome can't be settled: full", "undeliverable"),
        ("odd", "malformed headers: odd", "malformed"),
    ]
    make(
        path,
        *sqlite_version_1.STATEMENTS,
        *sqlite_version_1.MARKS,
        f"INSERT INTO messages (id, queue, headers, body) VALUES ('waits', 'q', "
        f"x'{headers.hex()}', x'5b5d')",
        *(
            "INSERT INTO dead_letters (id, queue, priority, token, strikes, died_at, reason, "
            f"headers, body) VALUES ('{name}', 'q', 0, 3, 2, 5.0, \"{reason}\", "
            f"x'{headers.hex()}', x'5b5d')"
            for name, reason, _ in dead
        ),
    )
    return {name: kind for name, _, kind in dead}


def test_file_of_version_1_is_brought_up_to_date(broker, query, old_file):
    letters = broker.dead_letters()

    assert query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert {letter.message.id: letter.kind for letter in letters} == old_file
    assert {(letter.deliveries, letter.died_at) for letter in letters} == {(3, 5.0)}
    assert broker.replay([(letters[0].receipt, message("q", id="again"))]) == []
    taken = broker.receive(["q"], max_messages=5, wait_s=0)
    assert [each.message.id for each in taken] == ["waits", "again"]
    broker.bury([Burial(taken[0], "no", DeathKind.REJECTED, {"more": 1})])
    newest = broker.dead_letters(limit=1)[0]
    assert (newest.kind, newest.details) == ("rejected", {"more": 1})


@pytest.fixture
def old_chord(path):
    """A chord of three parts, two of which were joined while the schema had version 3."""
    make(
        path,
        """CREATE TABLE chords (
            group_id TEXT PRIMARY KEY, size INTEGER, closed INTEGER, expires_at REAL)
            WITHOUT ROWID""",
        "CREATE INDEX chords_expiry ON chords (expires_at) WHERE expires_at IS NOT NULL",
        """CREATE TABLE chord_parts (
            group_id TEXT,
            task_id TEXT,
            place TEXT,
            state TEXT,
            ttl_s REAL,
            result BLOB,
            UNIQUE (group_id, task_id, place))""",
        "INSERT INTO chords VALUES ('header', 3, 0, NULL), ('other', 2, 0, NULL)",
        "INSERT INTO chord_parts VALUES ('header', 'one', '0', 'SUCCESS', NULL, x'31')",
        "INSERT INTO chord_parts VALUES ('header', 'two', '1', 'FAILURE', NULL, x'32')",
        f"PRAGMA application_id = {APPLICATION_ID}",
        "PRAGMA user_version = 3",
    )
    return "header"


def chord_part(group_id, index):
    return ChordPart(group_id=group_id, index=index, task_id="three", state="SUCCESS", result=b"3")


def test_chord_that_began_in_a_file_of_version_3_is_completed(backend, old_chord):
    progress = backend.chord_progress([old_chord, "other"])
    found = backend.join_chord([chord_part(old_chord, 2)])

    assert progress == {old_chord: ChordProgress(3, 2, 1), "other": ChordProgress(2, 0, 0)}
    assert [one.task_id for one in found[old_chord]] == ["one", "two", "three"]


def test_parts_that_a_process_of_version_3_joins_are_counted(backend, query, old_chord):
    backend.join_chord([chord_part("other", 0)])
    query(
        "INSERT INTO chord_parts (group_id, task_id, place, state, ttl_s, result) "
        "VALUES ('header', 'four', '3', 'REVOKED', NULL, x'34') ON CONFLICT DO NOTHING"
    )

    assert backend.chord_progress([old_chord]) == {old_chord: ChordProgress(3, 3, 2)}


def test_chord_that_a_process_of_version_4_closes_has_no_body(backend, query):
    backend.open_chord("group", 2, ttl_s=3600.0, body=b"{}")
    query("UPDATE chords SET closed = 1 WHERE group_id = 'group'")
    assert backend.chord_body("group") is None

    backend.open_chord("group", 2, ttl_s=3600.0)
    assert backend.chord_body("group") is None


def tables_of(path):
    """Return the columns of each table, and what each index is made of."""
    cx = sqlite3.connect(path)
    try:
        found = cx.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL"
        ).fetchall()
        return {
            name: sql
            if kind in ("index", "trigger")
            else {column[1:] for column in cx.execute(f"PRAGMA table_info({name})")}
            for kind, name, sql in found
        }
    finally:
        cx.close()


def test_file_that_was_brought_up_to_date_is_as_a_new_one(broker, path, tmp_path, old_file):
    new = SqliteBroker(f"sqlite:///{tmp_path / 'new.db'}", options={}, clock=SYSTEM_CLOCK)
    for each in (new, broker):
        each.check()
        each.close()

    assert tables_of(path) == tables_of(tmp_path / "new.db")


def test_processes_that_upgrade_a_file_at_once_do_it_once(path, query, old_file):
    databases = [Database(str(path), str(index)) for index in range(4)]
    try:
        with ThreadPoolExecutor(4) as threads:
            counts = list(
                threads.map(
                    lambda one: one.read(
                        5.0,
                        lambda cx: cx.execute("SELECT count(kind) FROM dead_letters").fetchone(),
                    ),
                    databases,
                )
            )
    finally:
        for each in databases:
            each.close()

    assert counts == [(5,)] * 4


def test_file_that_lost_its_log_mode_gets_it_back(open_handle, path, query):
    broker = open_handle(SqliteBroker)
    broker.send([message("q")])
    broker.close()
    make(path, "PRAGMA journal_mode = DELETE")
    again = open_handle(SqliteBroker)

    assert again.stats("q").ready == 1
    assert query("PRAGMA journal_mode") == [("wal",)]


def test_hot_queries_use_their_indexes(broker, query):
    """An index hint that no longer fits is an error of SQLite's; this shows that all fit."""
    broker.send([message("q"), message("q", due_at=9e9)])
    broker.peek("q")
    broker.stats("q")
    broker.recover_expired()
    plan = query(
        "EXPLAIN QUERY PLAN SELECT seq FROM messages INDEXED BY messages_ready "
        "WHERE queue = 'q' AND state = 0 ORDER BY priority DESC, seq LIMIT 5"
    )

    assert len(plan) == 1  # neither a sort nor a scan
    assert "messages_ready (queue=?)" in plan[0][3]


def test_sqlite_that_is_too_old_is_told(broker, path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")

    with pytest.raises(BrokerError, match=r"SQLite 3\.34\.1.*needs 3\.35\.0 or newer"):
        broker.check()
    assert not path.exists() or path.read_bytes() == b""
