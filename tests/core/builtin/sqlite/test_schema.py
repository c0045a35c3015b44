from __future__ import annotations

import sqlite3

import pytest

from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from umbel.errors import BrokerError
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
