"""What only shows between processes: a message goes to one of them, and a killed one loses none."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from umbel.clock import SYSTEM_CLOCK
from umbel.messages import Malformed, Message
from umbel_broker_directory.broker import DirectoryBroker
from umbel_testing.samples import message

MANY = 200
CONSUMER = """
import sys
from umbel.clock import SYSTEM_CLOCK
from umbel_broker_directory.broker import DirectoryBroker

broker = DirectoryBroker(sys.argv[1], options={}, clock=SYSTEM_CLOCK)
"""
#: Takes two messages, tells of them, and keeps them until it is killed.
HOLDER = f"""{CONSUMER}
for each in broker.receive(["jobs"], max_messages=2, wait_s=30):
    print(each.message.id, flush=True)
input()
"""
#: Takes messages until there are no more, and tells which they were.
DRAINER = f"""{CONSUMER}
while held := broker.receive(["jobs"], max_messages=7, wait_s=1):
    assert broker.ack(held) == []
    for each in held:
        print(each.message.id)
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DirectoryBroker]:
    """Return a handle on a folder of the test's own."""
    made = DirectoryBroker(f"directory://{tmp_path}", options={}, clock=SYSTEM_CLOCK)
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a process on the same folder; all are ended after the test."""
    started = []

    def start(code: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, f"directory://{tmp_path}"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def send(broker: DirectoryBroker, count: int) -> list[Message]:
    """Send so many messages."""
    messages = [message("jobs") for _ in range(count)]
    broker.send(messages)
    return messages


def test_what_a_killed_process_held_comes_back_at_once(
    broker: DirectoryBroker, start: Start
) -> None:
    """Nobody waits for a lease to run out: the system frees the locks."""
    sent = send(broker, 3)
    holder = start(HOLDER)
    assert holder.stdout is not None
    assert [holder.stdout.readline().strip() for _ in range(2)] == [each.id for each in sent[:2]]
    [third] = broker.receive(["jobs"], max_messages=9, wait_s=0)

    holder.kill()
    holder.wait()

    back = broker.receive(["jobs"], max_messages=9, wait_s=0)
    assert [(each.message, each.token) for each in back] == [(sent[0], 2), (sent[1], 2)]
    assert broker.ack([*back, third]) == []


def test_processes_share_no_message(broker: DirectoryBroker, start: Start) -> None:
    """Each message is acknowledged by one of them."""
    sent = send(broker, MANY)

    drainers = [start(DRAINER) for _ in range(3)]

    seen = [line for each in drainers for line in each.communicate()[0].split()]
    assert sorted(seen) == sorted(each.id for each in sent)


def test_what_a_killed_sender_left_is_not_delivered(broker: DirectoryBroker) -> None:
    """A name without its last part is a draft."""
    [sent] = send(broker, 1)
    path = folder_of(broker)[0]
    path.with_suffix("").write_bytes(path.read_bytes()[:20])

    assert [each.message for each in broker.receive(["jobs"], max_messages=9, wait_s=0)] == [sent]


def test_damaged_file_is_delivered_as_malformed(broker: DirectoryBroker) -> None:
    """It comes in its turn, and what stands behind it comes too."""
    sent = send(broker, 2)
    folder_of(broker)[0].write_bytes(b"{damaged")

    damaged, other = broker.receive(["jobs"], max_messages=9, wait_s=0)
    assert isinstance(damaged.message, Malformed)
    assert (damaged.message.raw, other.message) == (b"{damaged", sent[1])


def folder_of(broker: DirectoryBroker) -> list[Path]:
    """Return the files of the queue, in order."""
    return sorted(broker._path("jobs", "").iterdir())
