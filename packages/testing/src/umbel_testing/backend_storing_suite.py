"""Part of `BackendSuite`: `store`, `load`, `forget`, and expiry."""

from __future__ import annotations

from functools import partial

from umbel.ids import new_id
from umbel.interfaces.backend import Backend, BackendCapability
from umbel.outcomes import StoredResult
from umbel_testing.backend_kit import BackendKit, by_id, without_ttl
from umbel_testing.kit import Running
from umbel_testing.samples import result


class BackendStoringSuite(BackendKit):
    """What is stored is read back, until it is replaced, forgotten or expired."""

    def test_stored_result_is_loaded_field_by_field(self) -> None:
        backend = self.open()
        original = result(state="FAILURE", body=b'{"x": "\xc3\xa9"}', token=7, retries=3)

        assert list(backend.store([original])) == []
        assert dict(backend.load([original.task_id])) == {original.task_id: original}

    def test_result_of_a_users_own_state_is_kept(self) -> None:
        backend = self.open()
        progress = result(state="MON_PROGRÈS 50 %", body=b'{"done": 0.5}')
        backend.store([progress])

        assert self.stored(backend, progress.task_id) == by_id([progress])

    def test_empty_body_comes_back_empty(self) -> None:
        self._assert_body_comes_back(b"")

    def test_binary_body_comes_back_byte_for_byte(self) -> None:
        self._assert_body_comes_back(bytes(range(256)) * 4)

    def test_large_body_comes_back_byte_for_byte(self) -> None:
        self._assert_body_comes_back(b"umbel " * 200_000)

    def test_another_handle_loads_it_too(self) -> None:
        original, writer = result(), self.open()
        writer.store([original])
        writer.close()

        assert self.stored(self.open(), original.task_id) == by_id([original])

    def test_unknown_results_are_left_out(self) -> None:
        backend, original = self.open(), result()
        backend.store([original])

        assert self.stored(backend, new_id(), original.task_id) == by_id([original])
        assert self.stored(backend, new_id()) == {}

    def test_batches_of_nothing_do_nothing(self) -> None:
        backend = self.open()
        backend.forget([])

        assert list(backend.store([])) == []
        assert dict(backend.load([])) == {}

    def test_thousands_of_results_are_stored_loaded_and_forgotten_at_once(self) -> None:
        backend = self.open()
        results = [result(body=str(number).encode()) for number in range(3000)]
        task_ids = [one.task_id for one in results]
        backend.store(results)

        assert self.stored(backend, *task_ids) == by_id(results)
        backend.forget(task_ids)
        assert self.stored(backend, *task_ids) == {}

    def test_same_result_again_is_accepted(self) -> None:
        backend, original = self.open(), result(token=2, retries=1)
        backend.store([original])

        assert list(backend.store([original])) == []
        assert self.stored(backend, original.task_id) == by_id([original])

    def test_final_result_replaces_one_of_the_same_rank(self) -> None:
        for before in ("STARTED", "PROGRESS", "RETRY", "FAILURE", "SUCCESS"):
            self._assert_replaces(result(state=before), result(state="SUCCESS"))

    def test_unfinal_result_replaces_an_unfinal_one_of_the_same_rank(self) -> None:
        self._assert_replaces(result(state="STARTED"), result(state="PROGRESS"))

    def test_start_is_refused_after_what_the_same_run_told_since(self) -> None:
        for told in ("PROGRESS", "RETRY"):
            self._assert_refused(result(state=told), result(state="STARTED"))

    def test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank(self) -> None:
        for final in ("SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"):
            self._assert_refused(result(state=final), result(state="STARTED"))

    def test_result_of_a_later_delivery_replaces_whatever_is_there(self) -> None:
        for after in ("SUCCESS", "STARTED"):
            self._assert_replaces(result(token=1), result(state=after, token=2))

    def test_result_of_a_superseded_delivery_is_refused(self) -> None:
        for before in ("SUCCESS", "STARTED"):
            self._assert_refused(result(state=before, token=2), result(token=1))

    def test_result_of_a_later_retry_replaces_one_of_a_higher_token(self) -> None:
        self._assert_replaces(result(token=5), result(state="STARTED", retries=1, token=1))

    def test_result_of_an_earlier_retry_is_refused_even_with_a_higher_token(self) -> None:
        self._assert_refused(result(state="RETRY", retries=1, token=1), result(token=9))

    def test_result_of_what_never_ran_gives_way_to_any_other(self) -> None:
        self._assert_replaces(result(state="FAILURE", retries=-1, token=0), result(state="STARTED"))
        self._assert_refused(result(state="STARTED"), result(state="FAILURE", retries=-1, token=0))

    def test_one_refusal_leaves_the_rest_of_the_batch(self) -> None:
        backend = self.open()
        standing, before, after = result(token=2), result(), result()
        backend.store([standing])
        late = result(standing.task_id, body=b"late", token=1)

        assert list(backend.store([before, late, after])) == [standing.task_id]
        assert self.stored(backend, before.task_id, standing.task_id, after.task_id) == by_id(
            [before, standing, after]
        )

    def test_highest_rank_wins_within_a_batch(self) -> None:
        backend, task_id = self.open(), new_id()
        tokens = [result(task_id, token=token, body=str(token).encode()) for token in (1, 3, 2)]

        assert set(backend.store(tokens)) == {task_id}
        assert self.stored(backend, task_id) == by_id([tokens[1]])

    def test_highest_rank_wins_among_concurrent_writers(self) -> None:
        task_ids, handles = [new_id() for _ in range(10)], [self.open() for _ in range(4)]

        def write(backend: Backend, offset: int) -> None:
            for token in range(20 - offset, 0, -len(handles)):  # the highest first
                backend.store([result(task_id, token=token) for task_id in task_ids])

        threads = [Running(partial(write, one, offset)) for offset, one in enumerate(handles)]
        for thread in threads:
            thread.result(self.patience_s)
        found = self.open().load(task_ids)
        assert [found[task_id].token for task_id in task_ids] == [20] * 10

    def test_concurrent_threads_of_one_handle_do_not_disturb_each_other(self) -> None:
        backend = self.open()

        def work() -> bool:
            results = [result(body=new_id().encode()) for _ in range(20)]
            for one in results:
                backend.store([one])
            return all(backend.load([r.task_id])[r.task_id].body == r.body for r in results)

        threads = [Running(work) for _ in range(4)]
        assert all(thread.result(self.patience_s) for thread in threads)

    def test_forgotten_result_is_gone_and_may_be_stored_anew(self) -> None:
        backend = self.open()
        gone, kept = result(token=5), result()
        backend.store([gone, kept])
        backend.forget([gone.task_id, new_id()])

        assert self.stored(backend, gone.task_id, kept.task_id) == by_id([kept])
        assert list(backend.store([result(gone.task_id)])) == []

    def test_expired_result_is_gone(self) -> None:
        backend = self.open()
        short, long, ever = result(ttl_s=self.soon_s), result(ttl_s=3600.0), result()
        backend.store([short, long, ever])
        self.pass_time(self.soon_s * 1.1)

        found = self.stored(backend, short.task_id, long.task_id, ever.task_id)
        assert found == by_id([long, ever])

    def test_expired_result_stands_in_nobodys_way(self) -> None:
        backend = self.open()
        expired = result(token=5, ttl_s=self.soon_s)
        backend.store([expired])
        self.pass_time(self.soon_s * 1.1)
        new = result(expired.task_id, state="STARTED", token=1)

        assert list(backend.store([new])) == []
        assert self.stored(backend, new.task_id) == by_id([new])

    def test_storing_again_begins_the_time_anew(self) -> None:
        backend, task_id = self.open(), new_id()
        backend.store([result(task_id, ttl_s=self.soon_s)])
        longer = result(task_id, ttl_s=3600.0)
        backend.store([longer])
        self.pass_time(self.soon_s * 1.1)

        assert self.stored(backend, task_id) == by_id([longer])

    def test_expire_drops_what_is_expired_and_nothing_else(self) -> None:
        backend = self.open()
        kept = [result(), result(ttl_s=3600.0)]
        expired = [result(ttl_s=self.soon_s) for _ in range(3)]
        backend.store([*kept, *expired])
        self.pass_time(self.soon_s * 1.1)
        dropped = backend.expire(limit=2), backend.expire(limit=1000), backend.expire()

        if BackendCapability.EXPIRES not in backend.capabilities:
            # At least: a store that outlives its tests has others to drop as well.
            assert dropped[0] == 2
            assert dropped[1] >= 1
        assert dropped[2] == 0
        assert self.stored(backend, *(one.task_id for one in [*kept, *expired])) == by_id(kept)

    def test_check_finds_a_working_backend_in_order(self) -> None:
        backend, original = self.open(), result()
        backend.check()
        backend.store([original])

        backend.check()
        assert self.stored(backend, original.task_id) == by_id([original])

    def test_close_can_be_repeated(self) -> None:
        backend, original = self.open(), result()
        backend.store([original])
        backend.close()
        backend.close()

        assert self.stored(self.open(), original.task_id) == by_id([original])

    def _assert_body_comes_back(self, body: bytes) -> None:
        backend, original = self.open(), result(body=body)
        backend.store([original])

        assert backend.load([original.task_id])[original.task_id].body == body

    def _assert_replaces(self, before: StoredResult, after: StoredResult) -> None:
        new = self._stored_after(before, after, refused=False)
        assert new.body == b"after"
        assert (new.state, new.rank) == (after.state, after.rank)

    def _assert_refused(self, before: StoredResult, after: StoredResult) -> None:
        old = self._stored_after(before, after, refused=True)
        assert old == without_ttl(result(old.task_id, **_fields(before), body=b"before"))

    def _stored_after(
        self, before: StoredResult, after: StoredResult, *, refused: bool
    ) -> StoredResult:
        backend, task_id = self.open(), new_id()
        backend.store([result(task_id, **_fields(before), body=b"before")])
        answer = backend.store([result(task_id, **_fields(after), body=b"after")])

        assert list(answer) == ([task_id] if refused else [])
        return without_ttl(backend.load([task_id])[task_id])


def _fields(of: StoredResult) -> dict[str, str | int]:
    return {"state": of.state, "token": of.token, "retries": of.retries}
