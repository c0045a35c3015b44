"""Each test of the storing part of `BackendSuite` catches a fault planted in a sound backend."""

from __future__ import annotations

import threading
import time
from typing import ClassVar

import msgspec
import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel.errors import BackendError
from umbel.interfaces.backend import BackendCapability
from umbel.states import is_final
from umbel_testing import BackendSuite
from umbel_testing.backend_storing_suite import BackendStoringSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


def each(results, change):
    return [msgspec.structs.replace(one, **change(one)) for one in results]


MUTANTS = Mutants(BackendSuite, BackendStoringSuite, make_backend)


class Ranked(MemoryBackend):
    """Stores by a rule of its own: `refuses` says when."""

    def store(self, results):
        refused = []
        for new in results:
            old = self.load([new.task_id]).get(new.task_id)
            if old is not None and self.refuses(old, new):
                refused.append(new.task_id)
            else:
                self.forget([new.task_id])
                super().store([new])
        return refused


@MUTANTS.caught_by(
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
    "test_result_of_a_later_delivery_replaces_whatever_is_there",
    "test_result_of_a_superseded_delivery_is_refused",
    "test_same_result_again_is_accepted",
    "test_stored_result_is_loaded_field_by_field",
)
class LosesTheToken(MemoryBackend):
    def load(self, task_ids):
        found = super().load(task_ids)
        return {key: msgspec.structs.replace(one, token=1) for key, one in found.items()}


@MUTANTS.caught_by("test_result_of_a_users_own_state_is_kept")
class KnowsStatesInCapitalsOnly(MemoryBackend):
    def store(self, results):
        return super().store(
            each(results, lambda one: {"state": one.state.encode("ascii", "ignore").decode()})
        )


@MUTANTS.caught_by("test_empty_body_comes_back_empty")
class FillsEmptyBodies(MemoryBackend):
    def store(self, results):
        return super().store(each(results, lambda one: {"body": one.body or b"null"}))


@MUTANTS.caught_by("test_binary_body_comes_back_byte_for_byte")
class TakesBodiesForText(MemoryBackend):
    def store(self, results):
        return super().store(
            each(results, lambda one: {"body": one.body.decode("utf-8", "replace").encode()})
        )


@MUTANTS.caught_by("test_large_body_comes_back_byte_for_byte")
class CutsLargeBodies(MemoryBackend):
    def store(self, results):
        return super().store(each(results, lambda one: {"body": one.body[:1_000_000]}))


@MUTANTS.caught_by(
    "test_another_handle_loads_it_too",
    "test_close_can_be_repeated",
)
class ForgetsAtClose(MemoryBackend):
    def store(self, results):
        self.own = [*getattr(self, "own", ()), *(one.task_id for one in results)]
        return super().store(results)

    def close(self):
        super().close()
        self.forget(getattr(self, "own", ()))


@MUTANTS.caught_by(
    "test_expire_drops_what_is_expired_and_nothing_else",
    "test_expired_result_is_gone",
    "test_forgotten_result_is_gone_and_may_be_stored_anew",
    "test_unknown_results_are_left_out",
)
class FailsForUnknownResults(MemoryBackend):
    def load(self, task_ids):
        found = super().load(task_ids)
        return {key: found.get(key) for key in task_ids}

    def wait(self, task_ids, *, timeout_s):
        return super().wait(task_ids, timeout_s=timeout_s)


@MUTANTS.caught_by("test_batches_of_nothing_do_nothing")
class FailsToDoNothing(MemoryBackend):
    def forget(self, task_ids):
        assert task_ids
        super().forget(task_ids)


@MUTANTS.caught_by("test_thousands_of_results_are_stored_loaded_and_forgotten_at_once")
class LoadsAThousandAtMost(MemoryBackend):
    def load(self, task_ids):
        return super().load(task_ids[:1000])


@MUTANTS.caught_by(
    "test_same_result_again_is_accepted",
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_storing_again_begins_the_time_anew",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class RefusesRepeats(Ranked):
    def refuses(self, old, new):
        return old.rank >= new.rank and not (old.rank == new.rank and old.body != new.body)


@MUTANTS.caught_by(
    "test_final_result_replaces_one_of_the_same_rank",
    "test_group_that_is_saved_again_is_replaced",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_unfinal_result_replaces_an_unfinal_one_of_the_same_rank",
)
class KeepsTheFirst(Ranked):
    def refuses(self, old, new):
        return old.rank > new.rank or (old.rank == new.rank and old.body != new.body)


@MUTANTS.caught_by("test_unfinal_result_replaces_an_unfinal_one_of_the_same_rank")
class KeepsTheFirstUnfinal(Ranked):
    def refuses(self, old, new):
        return old.rank > new.rank or (old.rank == new.rank and not is_final(new.state))


@MUTANTS.caught_by(
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class LetsTheUnfinalWin(Ranked):
    def refuses(self, old, new):
        return old.rank > new.rank


@MUTANTS.caught_by("test_start_is_refused_after_what_the_same_run_told_since")
class LetsALateStartWin(Ranked):
    def refuses(self, old, new):
        is_late = old.rank == new.rank and is_final(old.state) and not is_final(new.state)
        return old.rank > new.rank or is_late


@MUTANTS.caught_by(
    "test_result_of_a_later_delivery_replaces_whatever_is_there",
    "test_result_of_a_later_retry_replaces_one_of_a_higher_token",
    "test_result_of_what_never_ran_gives_way_to_any_other",
    "test_start_is_refused_after_what_the_same_run_told_since",
)
class KeepsWhateverIsFinal(Ranked):
    def refuses(self, old, new):
        return old.rank > new.rank or (is_final(old.state) and not is_final(new.state))


@MUTANTS.caught_by(
    "test_final_result_replaces_one_of_the_same_rank",
    "test_group_that_is_saved_again_is_replaced",
    "test_highest_rank_wins_within_a_batch",
    "test_result_of_a_later_delivery_replaces_whatever_is_there",
    "test_result_of_a_later_retry_replaces_one_of_a_higher_token",
    "test_result_of_what_never_ran_gives_way_to_any_other",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_start_is_refused_after_what_the_same_run_told_since",
)
class KeepsEveryFinalForGood(Ranked):
    def refuses(self, old, new):
        return old.rank > new.rank or (is_final(old.state) and old.body != new.body)


@MUTANTS.caught_by(
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
    "test_result_of_a_superseded_delivery_is_refused",
    "test_result_of_an_earlier_retry_is_refused_even_with_a_higher_token",
    "test_result_of_what_never_ran_gives_way_to_any_other",
    "test_start_is_refused_after_what_the_same_run_told_since",
)
class LetsTheLastWin(Ranked):
    def refuses(self, old, new):
        return old.rank == new.rank and is_final(old.state) and not is_final(new.state)


@MUTANTS.caught_by(
    "test_result_of_a_later_retry_replaces_one_of_a_higher_token",
    "test_result_of_an_earlier_retry_is_refused_even_with_a_higher_token",
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class RanksByTokenAlone(Ranked):
    def refuses(self, old, new):
        return old.token > new.token


@MUTANTS.caught_by(
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
    "test_result_of_a_superseded_delivery_is_refused",
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class RanksByRetriesAlone(Ranked):
    def refuses(self, old, new):
        return old.retries > new.retries


@MUTANTS.caught_by(
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
)
class RefusesWholeBatches(MemoryBackend):
    def store(self, results):
        before = self.load([one.task_id for one in results])
        refused = super().store(results)
        if refused:
            ids = [one.task_id for one in results]
            self.forget(ids)
            super().store(list(before.values()))
        return refused


@MUTANTS.caught_by(
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
    "test_result_of_a_superseded_delivery_is_refused",
    "test_result_of_an_earlier_retry_is_refused_even_with_a_higher_token",
    "test_result_of_what_never_ran_gives_way_to_any_other",
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class RefusesInSilence(MemoryBackend):
    def store(self, results):
        super().store(results)
        return []


@MUTANTS.caught_by(
    "test_highest_rank_wins_among_concurrent_writers",
    "test_highest_rank_wins_within_a_batch",
    "test_one_refusal_leaves_the_rest_of_the_batch",
    "test_result_of_a_superseded_delivery_is_refused",
    "test_result_of_an_earlier_retry_is_refused_even_with_a_higher_token",
    "test_result_of_what_never_ran_gives_way_to_any_other",
    "test_start_is_refused_after_what_the_same_run_told_since",
    "test_unfinal_result_is_refused_after_a_final_one_of_the_same_rank",
)
class LooksThenWrites(MemoryBackend):
    """Lets the first writers all look before one of them writes; the highest rank goes first."""

    looked = threading.Barrier(4)

    def store(self, results):
        old = self.load([one.task_id for one in results])
        if len(results) == 10 and results[0].token > 16:
            self.looked.wait(LONG_S)
            time.sleep((20 - results[0].token) * 0.02)
        kept = [
            one for one in results if one.task_id not in old or old[one.task_id].rank <= one.rank
        ]
        self.forget([one.task_id for one in kept])
        super().store(kept)
        return []


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
    "test_forgotten_result_is_gone_and_may_be_stored_anew",
    "test_saved_group_is_loaded_across_handles",
)
class ForgetsNothing(MemoryBackend):
    def forget(self, task_ids):
        pass


@MUTANTS.caught_by(
    "test_deleted_group_is_gone",
    "test_forgotten_result_is_gone_and_may_be_stored_anew",
    "test_saved_group_and_the_result_of_a_task_are_two_things",
)
class ForgetsAll(MemoryBackend):
    def forget(self, task_ids):
        super().forget(list(self._store._results._items))


@MUTANTS.caught_by("test_forgotten_result_is_gone_and_may_be_stored_anew")
class RemembersForgottenRanks(MemoryBackend):
    gone: ClassVar[dict] = {}

    def forget(self, task_ids):
        self.gone.update(self.load(task_ids))
        super().forget(task_ids)

    def store(self, results):
        live = [
            one
            for one in results
            if one.task_id not in self.gone or self.gone[one.task_id].rank <= one.rank
        ]
        return [*super().store(live), *(one.task_id for one in results if one not in live)]


@MUTANTS.caught_by(
    "test_expire_drops_what_is_expired_and_nothing_else",
    "test_expired_result_is_gone",
    "test_expired_result_stands_in_nobodys_way",
    "test_saved_group_is_kept_until_its_time_is_over",
)
class KeepsAllForEver(MemoryBackend):
    def store(self, results):
        return super().store(each(results, lambda _: {"ttl_s": None}))


@MUTANTS.caught_by(
    "test_expire_drops_what_is_expired_and_nothing_else",
    "test_expired_result_is_gone",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_stored_result_is_loaded_field_by_field",
    "test_storing_again_begins_the_time_anew",
)
class ExpiresAllAtOnce(MemoryBackend):
    def store(self, results):
        return super().store(each(results, lambda one: {"ttl_s": min(one.ttl_s or 0.1, 0.1)}))


@MUTANTS.caught_by("test_expired_result_stands_in_nobodys_way")
class LetsTheExpiredRank(MemoryBackend):
    seen: ClassVar[dict] = {}

    def store(self, results):
        live = [
            one
            for one in results
            if one.task_id not in self.seen or self.seen[one.task_id].rank <= one.rank
        ]
        refused = super().store(live)
        self.seen.update((one.task_id, one) for one in live if one.ttl_s)
        return [*refused, *(one.task_id for one in results if one not in live)]


@MUTANTS.caught_by(
    "test_expired_result_stands_in_nobodys_way",
    "test_saved_group_is_kept_until_its_time_is_over",
    "test_storing_again_begins_the_time_anew",
)
class KeepsTheFirstExpiry(MemoryBackend):
    def store(self, results):
        old = self._store._results._items
        ends = {one.task_id: old[one.task_id].expires_at for one in results if one.task_id in old}
        refused = super().store(results)
        for key, at in ends.items():
            old[key].expires_at = at
        return refused


@MUTANTS.caught_by("test_expire_drops_what_is_expired_and_nothing_else")
class ExpiresAtRandom(MemoryBackend):
    def expire(self, *, limit=1000):
        self.forget(list(self._store._results._items)[:1])
        return 0


@MUTANTS.caught_by("test_expire_drops_what_is_expired_and_nothing_else")
class ExpiresWithoutLimit(MemoryBackend):
    """Needs `expire`, and doesn't keep to the limit."""

    capabilities = MemoryBackend.capabilities - {BackendCapability.EXPIRES}

    def expire(self, *, limit=1000):
        return super().expire(limit=10**9)


@MUTANTS.caught_by("test_check_finds_a_working_backend_in_order")
class FailsItsCheck(MemoryBackend):
    def check(self):
        raise BackendError("always")


@MUTANTS.caught_by(
    "test_another_handle_loads_it_too",
    "test_close_can_be_repeated",
)
class ClosesOnce(MemoryBackend):
    closed = False

    def close(self):
        if self.closed and self.load(list(self._store._results._items)):
            raise BackendError("closed already")
        self.closed = True
        super().close()


@MUTANTS.caught_by("test_backend_declares_its_capabilities")
class DeclaresWhatDoesNotExist(MemoryBackend):
    capabilities = MemoryBackend.capabilities | {"telepathy"}


@MUTANTS.caught_by("test_concurrent_threads_of_one_handle_do_not_disturb_each_other")
class MixesThreadsUp(MemoryBackend):
    def load(self, task_ids):
        self.asked = task_ids
        if len(task_ids) == 1:
            time.sleep(0.001)
        return super().load(self.asked)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
