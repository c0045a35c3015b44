"""Files that processes share as memory."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import rate_child

from umbel.worker import rate_table
from umbel.worker.rate_table import RateTable
from umbel.worker.shared_files import (
    lock_file,
    new_file,
    open_file,
    receive_files,
    unlock_file,
)


def test_new_file_is_as_large_as_was_asked_for_and_empty() -> None:
    handle, path = new_file("umbel-test", 100)
    try:
        assert os.pread(handle, 200, 0) == bytes(100)
        assert path is None or path.exists()
    finally:
        os.close(handle)


def test_where_nameless_files_are_forbidden_the_name_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handle, path = new_file("umbel-test", 100)
    os.close(handle)

    assert path is None
    assert list(tmp_path.iterdir()) == []


def test_lock_may_be_taken_again_after_it_was_given_up() -> None:
    handle, _ = new_file("umbel-test", 100)
    for _ in range(3):
        lock_file(handle)
        unlock_file(handle)
    os.close(handle)


def test_table_in_a_file_with_a_name_is_shared_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rates"

    def named(_name: str, size: int) -> tuple[int, Path]:  # as it is on Windows
        path.write_bytes(bytes(size))
        return open_file(path), path

    monkeypatch.setattr(rate_table, "new_file", named)
    table = RateTable.create()
    table.declare("t", 100.0)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=rate_child.take_for, args=(table, "t", 0.1, theirs), daemon=True)
    child.start()
    assert ours.recv() == "ready"
    ours.send("go")
    assert ours.recv()
    child.join(30)
    table.close()

    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="no files are sent there")
def test_files_that_are_received_are_the_same_and_go_to_no_program() -> None:
    ours, theirs = socket.socketpair()
    handle, _ = new_file("umbel-test", 10)
    with ours, theirs:
        socket.send_fds(ours, [b"take"], [handle, handle])
        data, files = receive_files(theirs, 10, 5)

    os.pwrite(handle, b"x", 0)
    assert (data, len(files)) == (b"take", 2)
    assert [os.pread(each, 1, 0) for each in files] == [b"x", b"x"]
    assert not any(os.get_inheritable(each) for each in files)
    for each in (handle, *files):
        os.close(each)


@pytest.mark.skipif(os.name == "nt", reason="no files are sent there")
def test_receiving_does_not_wait_where_it_is_told_not_to() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(BlockingIOError):
        receive_files(theirs, 10, 5, socket.MSG_DONTWAIT)
