"""What can be wrong with an SQLite file: told at the call, and everything works again after it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlite_process import Process, message, open_broker

from umbel.builtin.sqlite.backend import SqliteBackend
from umbel.builtin.sqlite.coordinator import SqliteCoordinator
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import (
    BackendError,
    BackendUnavailableError,
    BrokerError,
    BrokerUnavailableError,
)
from umbel_testing.samples import result

pytestmark = pytest.mark.faults
posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def broker(url):
    made = open_broker(url)
    yield made
    made.close()


@pytest.fixture
def backend(url):
    made = SqliteBackend(url, options={}, clock=SYSTEM_CLOCK)
    yield made
    made.close()


def connection(handle):
    """Return the connection behind a handle, to do to it what a user's machine might."""
    handle.check()
    return handle._store._opened()._connection()


def refused(handle, said):
    """Check that calls on the broker are refused with a reason, none of them as unavailable."""
    calls = (
        handle.check,
        lambda: handle.send([message("x")]),
        lambda: handle.receive(["celery"], max_messages=1, wait_s=0),
        lambda: handle.stats("celery"),
    )
    for call in calls:
        with pytest.raises(BrokerError, match=said) as caught:
            call()
        assert not isinstance(caught.value, BrokerUnavailableError)


# -- the wrong file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"just a text, nothing more\n" * 50, random.Random(1).randbytes(9000)]
)
def test_file_that_is_not_sqlite_is_refused_and_left_as_it_was(broker, path, content):
    path.write_bytes(content)

    refused(broker, f"{re.escape(str(path))}.*not an SQLite file.*another path")
    assert path.read_bytes() == content


def test_folder_in_the_place_of_the_file_is_told(broker, path):
    path.mkdir()

    refused(broker, "it is a folder; name a file in it")


def test_folder_that_is_missing_is_told(tmp_path):
    broker = open_broker(f"sqlite:///{tmp_path}/data/jobs.db")

    refused(broker, "there is no folder .*data.*make it")
    (tmp_path / "data").mkdir()
    broker.send([message("x")])
    broker.close()


def test_every_kind_of_handle_tells(path, url, backend):
    path.write_bytes(b"x" * 5000)
    coordinator = SqliteCoordinator(url, options={}, clock=SYSTEM_CLOCK)

    with pytest.raises(BackendError, match="not an SQLite file"):
        backend.store([result("a")])
    with pytest.raises(BackendError, match="not an SQLite file"):
        coordinator.put("key", b"value")
    coordinator.close()


# -- damage -----------------------------------------------------------------------------------


def test_damaged_file_is_told_and_a_restored_one_works(broker, path, tmp_path):
    broker.send([message(str(n), headers={"x": "y" * 500}) for n in range(500)])
    broker.close()
    copy = shutil.copy(path, tmp_path / "backup")
    damaged = bytearray(path.read_bytes())
    damaged[4096 * 3 :] = random.Random(2).randbytes(len(damaged) - 4096 * 3)
    path.write_bytes(damaged)
    again = open_broker(f"sqlite:///{path}")
    with pytest.raises(BrokerError, match=r"is damaged.*restore it") as caught:
        while again.ack(again.receive(["celery"], max_messages=50, wait_s=0)) == []:
            again.send([message("more")])
    assert not isinstance(caught.value, BrokerUnavailableError)
    again.close()
    shutil.copy(copy, path)

    last = open_broker(f"sqlite:///{path}")
    assert last.stats("celery").ready == 500
    last.close()


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_an_error_of_ours_and_never_another(path, url, seed):
    chance = random.Random(seed)
    broker = open_broker(url)
    broker.send([message(str(n)) for n in range(200)])
    broker.close()
    damaged = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 60)):
        at = chance.randrange(len(damaged))
        damaged[at : at + 8] = chance.randbytes(8)
    path.write_bytes(damaged[: len(damaged) - chance.choice([0, 0, 5000])])

    again = open_broker(url)
    for _ in range(60):
        with contextlib.suppress(BrokerError):
            again.ack(again.receive(["celery"], max_messages=10, wait_s=0))
            again.send([message("more")])
            again.recover_expired()
            again.peek("celery")
            again.stats("celery")
    again.close()


# -- what this user may not do ----------------------------------------------------------------


READ_ONLY = """
import os, sys
from sqlite_process import message, open_broker
from umbel.errors import BrokerError, BrokerUnavailableError

if os.getuid() == 0:  # to whom nothing is forbidden
    os.setgid(65534)
    os.setuid(65534)
broker = open_broker(sys.argv[1])
for call in (broker.check, lambda: broker.send([message("x")])):
    try:
        call()
    except BrokerUnavailableError as error:
        print("unavailable", error)
    except BrokerError as error:
        print("refused", error)
    else:
        print("accepted")
broker.close()
"""


def as_another_user(url):
    """Return what READ_ONLY says."""
    return run(READ_ONLY, url).splitlines()


def run(script, url):
    """Run a script in a process of its own; return what it prints."""
    support = Path(sys.modules["sqlite_process"].__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(support)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def open_to_all():
    """A folder that another user can reach; pytest's own are closed to all others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@posix
def test_read_only_folder_is_told(open_to_all):
    open_to_all.chmod(0o555)

    said = as_another_user(f"sqlite:///{open_to_all}/jobs.db")
    open_to_all.chmod(0o755)
    assert len(said) == 2
    for line in said:
        assert re.search(r"^refused .*jobs.db.*folder .* is read-only for this user", line)


@posix
def test_folder_that_may_not_be_entered_is_told(open_to_all):
    open_to_all.chmod(0o000)

    said = as_another_user(f"sqlite:///{open_to_all}/jobs.db")
    assert len(said) == 2
    for line in said:
        assert re.search(r"^refused .*this user may not enter it; make it", line)


@posix
def test_read_only_file_is_told_and_keeps_what_it_has(open_to_all):
    broker = open_broker(f"sqlite:///{open_to_all}/jobs.db")
    broker.send([message("before")])
    broker.close()
    (open_to_all / "jobs.db").chmod(0o444)
    open_to_all.chmod(0o777)
    said = as_another_user(f"sqlite:///{open_to_all}/jobs.db")

    assert len(said) == 2
    for line in said:
        assert re.search(r"^refused .*'jobs.db' is read-only for this user; change its perm", line)
    for file in open_to_all.glob("jobs.db*"):
        file.chmod(0o666)
    assert as_another_user(f"sqlite:///{open_to_all}/jobs.db") == ["accepted"] * 2


@posix
def test_read_only_companion_of_the_file_is_told(open_to_all):
    broker = open_broker(f"sqlite:///{open_to_all}/jobs.db")
    broker.check()
    open_to_all.chmod(0o777)
    for file in open_to_all.iterdir():
        file.chmod(0o666)
    (open_to_all / "jobs.db-shm").chmod(0o444)
    said = as_another_user(f"sqlite:///{open_to_all}/jobs.db")
    broker.close()

    assert len(said) == 2
    for line in said:
        assert "'jobs.db-shm' is read-only for this user" in line


# -- no room ----------------------------------------------------------------------------------


def test_full_disk_is_told_and_nothing_accepted_is_lost(broker, backend):
    broker.send([message(f"before {n}") for n in range(10)])
    cx = connection(broker)
    [[pages]] = cx.execute("PRAGMA page_count").fetchall()
    cx.execute(f"PRAGMA max_page_count = {pages}")
    accepted = 0
    with pytest.raises(BrokerUnavailableError, match=r"no space is left.*free some"):
        while True:
            broker.send([message("more", headers={"x": "y" * 3000})])
            accepted += 1
    with pytest.raises(BackendUnavailableError, match="no space is left"):
        backend.store([result("a", body=b"x" * 100_000)])
    assert broker.stats("celery").ready == 10 + accepted
    taken = broker.receive(["celery"], max_messages=3, wait_s=0)
    assert broker.ack(taken) == []
    cx.execute("PRAGMA max_page_count = 1000000")

    broker.send([message("after", headers={"x": "y" * 3000})])
    backend.store([result("a", body=b"x" * 100_000)])
    assert broker.stats("celery").ready == 10 + accepted - 3 + 1
    assert set(backend.load(["a"])) == {"a"}


NO_ROOM = """
import resource, sys
from sqlite_process import message, open_broker
from umbel.errors import BrokerUnavailableError

broker = open_broker(sys.argv[1])
broker.send([message("before")])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
accepted = 0
try:
    while True:
        broker.send([message("more", headers={"x": "y" * 3000})])
        accepted += 1
except BrokerUnavailableError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(broker.stats("celery").ready - accepted)
broker.send([message("after")])
print(broker.stats("celery").ready - accepted)
broker.close()
"""


@posix
def test_system_that_refuses_to_write_is_told_and_nothing_accepted_is_lost(url):
    told, before, after = run(NO_ROOM, url).splitlines()

    assert "jobs.db" in told
    assert (before, after) == ("1", "2")


# -- locked -----------------------------------------------------------------------------------


def test_lock_that_lasts_too_long_is_told_and_may_be_tried_again(url):
    broker = open_broker(f"{url}?busy_timeout_s=0.2")
    broker.check()
    holder = Process(url, "lock")
    assert holder.line() == "ready"
    with pytest.raises(BrokerUnavailableError, match=r"locked by another process for 0\.2 s"):
        broker.send([message("x")])
    assert broker.stats("celery").ready == 0  # readers go on
    holder.tell("end")
    assert holder.join() == 0
    broker.send([message("x")])

    assert broker.stats("celery").ready == 1
    broker.close()


def test_lock_that_ends_in_time_is_waited_for(url):
    broker = open_broker(url)
    broker.check()
    holder = Process(url, "lock")
    assert holder.line() == "ready"
    holder.tell("end")
    broker.send([message("x")])

    assert broker.stats("celery").ready == 1
    assert holder.join() == 0
    broker.close()


def test_table_that_somebody_dropped_is_told(broker, path):
    broker.check()
    cx = sqlite3.connect(path)
    cx.execute("DROP TABLE messages")
    cx.close()

    with pytest.raises(BrokerError, match="no such table: messages"):
        broker.send([message("x")])
