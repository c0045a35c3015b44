from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from umbel.builtin.sqlite import database as database_module
from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.builtin.sqlite.database import REGISTRY, Database
from umbel.builtin.sqlite.errors import ClosedError
from umbel_testing.samples import message, result

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


@pytest.fixture
def database(path):
    made = REGISTRY.acquire(str(path))
    yield made
    REGISTRY.release(made)


def one(cx):
    return cx.execute("SELECT 1").fetchone()[0]


def test_handles_on_one_file_share_a_connection(open_handle, path, database):
    for kind in (SqliteBroker, SqliteBackend):
        open_handle(kind).check()
    open_handle(SqliteCoordinator).put("key", b"value")

    assert database.epoch == 1
    assert REGISTRY.acquire(str(path)) is database
    REGISTRY.release(database)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_link_to_a_file_is_that_file(path, database):
    path.touch()
    link = path.with_name("link.db")
    link.symlink_to(path)

    found = REGISTRY.acquire(str(link))
    assert found is database
    REGISTRY.release(found)


def test_nothing_is_opened_before_the_first_call(open_handle, path):
    for kind in (SqliteBroker, SqliteBackend, SqliteCoordinator):
        open_handle(kind)

    assert not path.exists()


def test_last_user_closes_the_connection(path, url):
    database = REGISTRY.acquire(str(path))
    REGISTRY.acquire(str(path))
    database.read(1.0, one)
    REGISTRY.release(database)
    assert database.read(1.0, one) == 1
    REGISTRY.release(database)

    with pytest.raises(ClosedError):
        database.read(1.0, one)
    assert [found.name for found in path.parent.glob("jobs.db*")] == ["jobs.db"]


def test_default_folder_is_made_and_hidden_from_git(tmp_path):
    path = tmp_path / ".umbel" / "umbel.db"
    database = Database(str(path), "key")
    database.read(1.0, one)
    database.close()

    assert (path.parent / ".gitignore").read_text() == "*\n"


def test_folder_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / ".umbel").mkdir()
    database = Database(str(tmp_path / ".umbel" / "umbel.db"), "key")
    database.read(1.0, one)
    database.close()

    assert not (tmp_path / ".umbel" / ".gitignore").exists()


def test_failed_transaction_leaves_nothing(database):
    def fail(cx):
        cx.execute("INSERT INTO queues VALUES ('a')")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.write(1.0, False, fail)

    assert database.read(1.0, lambda cx: cx.execute("SELECT * FROM queues").fetchall()) == []


@pytest.fixture
def raise_at(monkeypatch):
    """Has KeyboardInterrupt raised as a statement returns, as a signal's handler would."""

    def arm(statement):
        class Interrupted(sqlite3.Connection):
            def execute(self, sql, *values):
                cursor = super().execute(sql, *values)
                if armed and sql == statement:
                    armed.clear()
                    raise KeyboardInterrupt
                return cursor

        connect, armed = sqlite3.connect, []
        monkeypatch.setattr(
            sqlite3, "connect", lambda *args, **named: connect(*args, factory=Interrupted, **named)
        )
        return lambda: armed.append(True)

    return arm


def test_interrupt_as_a_transaction_begins_leaves_none_open(database, raise_at):
    interrupt = raise_at("BEGIN IMMEDIATE")
    database.write(1.0, False, one)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        database.write(1.0, False, one)

    assert database.write(1.0, False, one) == 1


def test_interrupt_as_the_level_changes_leaves_later_sends_durable(database, raise_at):
    interrupt = raise_at("PRAGMA synchronous = NORMAL")
    database.write(1.0, True, one)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        database.write(1.0, False, one)

    level = database.write(1.0, True, lambda cx: cx.execute("PRAGMA synchronous").fetchone()[0])
    assert level == 2


@pytest.mark.parametrize("writes", [False, True])
def test_half_read_cursor_in_a_traceback_pins_nothing(database, path, writes):
    def half(cx):
        cursor = cx.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "LIMIT 9) SELECT i, (SELECT count(*) FROM queues) FROM n"
        )
        cursor.fetchone()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        database.write(1.0, False, half) if writes else database.read(1.0, half)
    other = sqlite3.connect(path, timeout=0.0)
    other.execute("INSERT INTO queues VALUES ('theirs')")
    other.commit()
    other.close()

    database.write(0.0, False, lambda cx: cx.execute("INSERT INTO queues VALUES ('ours')"))
    assert database.read(0.0, lambda cx: cx.execute("SELECT count(*) FROM queues").fetchone()) == (
        2,
    )
    assert kept.tb is not None


def test_build_that_wipes_what_is_deleted_is_told_not_to(database):
    assert database.read(1.0, lambda cx: cx.execute("PRAGMA secure_delete").fetchone()) == (0,)


def test_thread_waits_for_its_turn_and_then_works(database):
    entered, go_on, done = threading.Event(), threading.Event(), []

    def slow(cx):
        entered.set()
        go_on.wait(20)

    first = threading.Thread(target=database.write, args=(1.0, False, slow))
    second = threading.Thread(target=lambda: done.append(database.read(0.0, one)))
    first.start()
    entered.wait(20)
    second.start()
    second.join(0.05)
    assert done == []
    go_on.set()
    first.join()
    second.join()

    assert done == [1]


def remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be deleted")
def test_deleted_file_is_made_anew_and_used_by_all(open_handle, path, clock):
    broker, backend = open_handle(SqliteBroker, clock), open_handle(SqliteBackend, clock)
    broker.join("node", "consumer", lease_s=60)
    broker.send([message("q"), message("q")])
    [old] = broker.receive(["q"], max_messages=1, wait_s=0)
    remove(path)
    new = message("q")
    broker.send([new])
    backend.store([result("r")])

    with sqlite3.connect(path) as cx:
        assert cx.execute("SELECT id FROM messages").fetchall() == [(new.id,)]
        assert cx.execute("SELECT task_id FROM results").fetchall() == [("r",)]
    cx.close()
    assert broker.ack([old]) == [old]
    assert [one.message for one in broker.receive(["q"], max_messages=9, wait_s=0)] == [new]
    assert broker.queues() == ["q"]


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be deleted")
def test_waiting_receive_moves_to_the_new_file(open_handle, path):
    broker = open_handle(SqliteBroker)
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(broker.receive(["q"], max_messages=1, wait_s=20))
    )
    thread.start()
    while not broker._wakeup._waiting:
        thread.join(0.001)
    remove(path)
    new = message("q")
    open_handle(SqliteBroker).send([new])
    thread.join(20)

    assert [one.message for one in found] == [new]


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be deleted")
def test_deleted_default_folder_is_made_anew(tmp_path, clock):
    broker = SqliteBroker("sqlite://", options={}, clock=clock)
    broker.send([message("q")])
    shutil.rmtree(tmp_path / ".umbel")
    new = message("q")
    broker.send([new])

    assert broker.peek("q") == [new]
    assert (tmp_path / ".umbel" / ".gitignore").exists()
    broker.close()


FORK = """
import os, sys, threading
from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.builtin.sqlite.database import REGISTRY
from umbel.clock import SYSTEM_CLOCK
from umbel_testing.samples import message

broker = SqliteBroker(sys.argv[1], options={}, clock=SYSTEM_CLOCK)
broker.send([message("q", id="before")])
broker.receive(["none"], max_messages=1, wait_s=0.01)
"""


def run_forking(url, script):
    """Run FORK and `script` in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK + script, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@needs_fork
def test_forked_child_uses_a_connection_of_its_own(url):
    said = run_forking(
        url,
        """
database = REGISTRY.acquire(sys.argv[1][10:])
mine = database._cx
child = os.fork()
if child == 0:
    broker.send([message("q", id="child")])
    [taken, other] = broker.receive(["q"], max_messages=5, wait_s=1)
    broker.ack([taken])
    print(database._cx is not mine, taken.message.id, flush=True)
    os._exit(0)
os.waitpid(child, 0)
broker.send([message("q", id="parent")])
print(database._cx is mine, broker.peek("q")[0].id, broker.stats("q").held)
""",
    )

    assert said == ["True", "before", "True", "parent", "1"]


@needs_fork
def test_forked_child_never_claims_in_the_name_of_its_parent(url):
    said = run_forking(
        url,
        """
broker.join("node", "consumer", lease_s=60)
broker.send([message("q", id="second")])
[mine] = broker.receive(["q"], max_messages=1, wait_s=1)
child = os.fork()
if child == 0:
    [theirs] = broker.receive(["q"], max_messages=1, wait_s=1)
    os._exit(0)
os.waitpid(child, 0)
print(*[one.message.id for one in broker.held("consumer")])
""",
    )

    assert said == ["before"]


@needs_fork
def test_fork_amid_another_threads_transactions_leaves_no_lock_behind(url):
    said = run_forking(
        url,
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of threads and fork, from 3.12 on
stop = threading.Event()
def work():
    while not stop.is_set():
        broker.send([message("q")])
thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        broker.send([message("child")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print(broker.stats("child").ready)
""",
    )

    assert said == ["20"]


@needs_fork
def test_threads_that_fork_at_once_leave_no_lock_and_no_connection_behind(url):
    said = run_forking(
        url,
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
database = REGISTRY.acquire(sys.argv[1][10:])
statuses = []
def fork():
    for _ in range(25):
        child = os.fork()
        if child == 0:
            os._exit(0 if database._cx is None else 1)
        statuses.append(os.waitpid(child, 0)[1])
threads = [threading.Thread(target=fork) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(statuses), any(statuses), database._lock.locked())
""",
    )

    assert said == ["100", "False", "False"]


@needs_fork
def test_forked_child_is_woken_at_a_port_of_its_own(url):
    said = run_forking(
        url,
        """
child = os.fork()
if child == 0:
    [taken] = broker.receive(["late"], max_messages=1, wait_s=20)
    print(taken.message.id, flush=True)
    os._exit(0)
import time
time.sleep(0.2)
broker.send([message("late", id="late")])
os.waitpid(child, 0)
print(broker.receive(["none"], max_messages=1, wait_s=0.01))
""",
    )

    assert said == ["late", "[]"]


def test_parent_connections_are_kept_from_being_closed():
    assert database_module._parked == []
