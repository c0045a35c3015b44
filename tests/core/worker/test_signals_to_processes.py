"""Which process of a worker heeds which signal; shown in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from umbel.worker.shutdown import Phase
from umbel.worker.stop_signals import StopSignals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program and return what came of it."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def send() -> Callable[[int], None]:
    return lambda number: os.kill(os.getpid(), number)


def test_signals_ask_for_the_phases_of_a_shutdown(send: Callable[[int], None]) -> None:
    asked: list[Any] = []
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with StopSignals() as signals:
        signals.listen(asked.append)
        for number in (
            signal.SIGTERM,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGINT,
            signal.SIGQUIT,
        ):
            send(number)

    assert asked == [Phase.WARM, Phase.WARM, Phase.WARM, None, None, Phase.COLD]
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_thread_hears_signals_whatever_holds_the_main_one_up(
    send: Callable[[int], None],
) -> None:
    asked: list[tuple[Any, str]] = []
    done = threading.Event()

    def request(phase: Phase | None) -> None:
        asked.append((phase, threading.current_thread().name))
        if phase is Phase.COLD:
            done.set()

    before = threading.active_count()
    with StopSignals() as signals:
        signals.listen_in_thread(request)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            send(number)
        assert done.wait(30)

    assert sorted(asked, key=str) == sorted(
        ((phase, "umbel-signals") for phase in (None, Phase.WARM, Phase.COLD)), key=str
    )
    assert threading.active_count() == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_hangup_reloads_and_usr1_dumps_where_the_worker_can(
    send: Callable[[int], None],
) -> None:
    done: list[Any] = []
    with StopSignals() as signals:
        signals.listen(done.append, reload=lambda: done.append("r"), dump=lambda: done.append("d"))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            send(number)

    assert done == ["r", "d", Phase.WARM]


def test_a_thread_hears_of_reloads_and_dumps_too(send: Callable[[int], None]) -> None:
    done: set[str] = set()
    all_heard = threading.Event()

    def note(what: str) -> None:
        done.add(what)
        if len(done) == 2:
            all_heard.set()

    with StopSignals() as signals:
        signals.listen_in_thread(
            lambda phase: None, reload=lambda: note("reload"), dump=lambda: note("dump")
        )
        for number in (signal.SIGHUP, signal.SIGUSR1):
            send(number)
        assert all_heard.wait(30)


def test_a_worker_that_does_not_listen_yet_has_nothing_to_dump(
    send: Callable[[int], None],
) -> None:
    with StopSignals():
        send(signal.SIGUSR1)


def test_a_program_that_is_nothing_but_a_worker_is_ended_in_order_by_one_more_signal() -> None:
    ended = run_python(
        """
        import os, signal, time
        from umbel.worker.stop_signals import StopSignals
        with StopSignals(owns_process=True) as signals:
            signals.listen(lambda phase: print("asked", flush=True))
            os.kill(os.getpid(), signal.SIGTERM)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        time.sleep(60)
        """
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "asked\n", "")


def test_a_program_that_is_still_loading_its_app_ends_in_order() -> None:
    ended = run_python(
        """
        import os, signal
        from umbel.worker.stop_signals import heed_while_starting
        heed_while_starting()
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as exc:
            print("the import of the app sees", exc)
        """
    )

    assert (ended.returncode, ended.stdout) == (0, "")


def test_signals_that_came_while_nobody_could_heed_them_are_heeded_then() -> None:
    ended = run_python(
        """
        import os, signal
        from umbel.worker.stop_signals import SENT_BY_MANAGERS, StopSignals
        signal.pthread_sigmask(signal.SIG_BLOCK, SENT_BY_MANAGERS)
        os.kill(os.getpid(), signal.SIGTERM)
        with StopSignals() as signals:
            print("not reached")
        """
    )

    assert (ended.returncode, ended.stdout) == (0, "")


def test_before_anybody_listens_a_worker_that_is_told_to_stop_ends_in_order(
    send: Callable[[int], None],
) -> None:
    cleaned: list[bool] = []
    with pytest.raises(SystemExit) as caught, StopSignals():
        try:
            send(signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert (caught.value.code, cleaned) == (0, [True])


def test_a_worker_under_nohup_passes_hangups_over() -> None:
    ended = run_python(
        """
        import os, signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from umbel.worker.stop_signals import StopSignals
        with StopSignals() as signals:
            signals.listen(lambda phase: print("asked"))
            os.kill(os.getpid(), signal.SIGHUP)
        """
    )

    assert (ended.returncode, ended.stdout) == (0, "")


def test_children_leave_signals_to_the_supervisor_and_what_they_start_does_not() -> None:
    ended = run_python(
        """
        import multiprocessing, os, signal, subprocess, time
        from umbel.worker.heeding import heed_signals_in_forks, leave_signals_to_supervisor

        leave_signals_to_supervisor()
        heed_signals_in_forks()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(os.getpid(), number)
        print("alive")

        program = subprocess.Popen(["sleep", "60"])
        program.terminate()
        print("program", program.wait(30))

        fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        fork.start()
        fork.terminate()
        fork.join(30)
        print("fork", fork.exitcode)
        """
    )

    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["alive", "program -15", "fork -15"]


def test_signals_that_come_while_a_process_is_started_do_not_end_it() -> None:
    ended = run_python(
        """
        import os, signal
        from umbel.worker import heeding

        with heeding.holding_signals():
            pid = os.fork()
            if not pid:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                    os.kill(os.getpid(), number)
                heeding.leave_signals_to_supervisor()
                heeding.let_signals_through()
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.kill(os.getpid(), signal.SIGTERM)
        """
    )

    assert (ended.stdout, ended.returncode) == ("7\n", -signal.SIGTERM)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl of Linux")
def test_init_collects_the_processes_that_it_inherits_and_not_its_own() -> None:
    ended = run_python(
        """
        import ctypes, os, subprocess, time
        from umbel.worker import processes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as if it were init
        processes.os.getpid = lambda: 1
        own = subprocess.Popen(["true"])
        processes._pids_of_multiprocessing = lambda: {own.pid}
        subprocess.run(["sh", "-c", "sleep 0.05 & exit 0"], check=True)

        def zombies():
            found = []
            me = os.readlink("/proc/self")
            for pid in open(f"/proc/{me}/task/{me}/children").read().split():
                if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z":
                    found.append(int(pid))
            return found

        deadline = time.monotonic() + 30
        while len(zombies()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        inherited = [pid for pid in zombies() if pid != own.pid]
        processes._pids_of_multiprocessing = lambda: set(inherited)
        processes.reap_adopted()
        print("kept", set(inherited) <= set(zombies()))
        processes._pids_of_multiprocessing = set
        processes.reap_adopted()
        print("left", zombies())
        """
    )

    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["kept True", "left []"]
