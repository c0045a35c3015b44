"""Part of `BackendSuite`: `wait` and `interrupt`."""

from __future__ import annotations

from umbel.ids import new_id
from umbel_testing.backend_kit import BackendKit, by_id, comparable
from umbel_testing.kit import Running
from umbel_testing.samples import result


class BackendWaitingSuite(BackendKit):
    """A wait ends with the first final result, at its bound, or when it is told to."""

    def test_wait_returns_what_is_final_already(self) -> None:
        backend = self.open()
        done, failed, started = result(), result(state="FAILURE"), result(state="STARTED")
        backend.store([done, failed, started])
        task_ids = [done.task_id, new_id(), failed.task_id, started.task_id]

        running = Running(lambda: backend.wait(task_ids, timeout_s=60.0))
        assert comparable(running.result(self.patience_s)) == by_id([done, failed])

    def test_wait_that_may_not_wait_looks_once(self) -> None:
        backend, done = self.open(), result()
        task_ids = [new_id(), done.task_id]
        before = dict(backend.wait(task_ids, timeout_s=0))
        backend.store([done])

        assert before == {}
        assert comparable(backend.wait(task_ids, timeout_s=0)) == by_id([done])

    def test_wait_is_ended_by_a_result_from_elsewhere(self) -> None:
        done = result()
        running = self.waiting(self.open(), new_id(), done.task_id)
        self.open().store([done])

        assert comparable(running.result(self.patience_s)) == by_id([done])

    def test_each_final_state_ends_a_wait(self) -> None:
        backend = self.open()
        for state in ("SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"):
            final = result(state=state)
            backend.store([final])
            assert comparable(backend.wait([final.task_id], timeout_s=0)) == by_id([final])

    def test_unfinal_result_does_not_end_a_wait(self) -> None:
        backend, task_id = self.open(), new_id()
        running = self.waiting(backend, task_id)
        for state in ("STARTED", "RETRY", "PROGRESS"):
            self.open().store([result(task_id, state=state)])
        assert running.goes_on(0.1)
        final = result(task_id)
        self.open().store([final])

        assert comparable(running.result(self.patience_s)) == by_id([final])

    def test_wait_lasts_no_longer_than_it_may(self) -> None:
        running = self.waiting(self.open(), new_id(), timeout_s=0.2)

        assert dict(running.result(0.2 + self.grace_s)) == {}

    def test_interrupt_ends_a_wait_empty(self) -> None:
        backend = self.open()
        running = self.waiting(backend, new_id())

        assert dict(running.result(self.patience_s, nudge=backend.interrupt)) == {}

    def test_interrupted_handle_waits_on(self) -> None:
        backend, done = self.open(), result()
        running = self.waiting(backend, new_id())
        running.result(self.patience_s, nudge=backend.interrupt)
        backend.store([done])

        assert comparable(backend.wait([done.task_id], timeout_s=60.0)) == by_id([done])

    def test_interrupt_of_one_handle_leaves_others_waiting(self) -> None:
        backend, done = self.open(), result()
        running = self.waiting(self.open(), done.task_id)
        backend.interrupt()

        assert running.goes_on(0.1)
        backend.store([done])
        assert comparable(running.result(self.patience_s)) == by_id([done])

    def test_all_who_wait_for_a_result_get_it(self) -> None:
        done, shared = result(), self.open()
        waits = [self.waiting(backend, done.task_id) for backend in (shared, shared, self.open())]
        self.open().store([done])

        for running in waits:
            assert comparable(running.result(self.patience_s)) == by_id([done])
