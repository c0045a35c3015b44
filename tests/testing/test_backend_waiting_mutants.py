"""Each test of the waiting part of `BackendSuite` catches a fault planted in a sound backend."""

from __future__ import annotations

import time
from typing import ClassVar

import msgspec
import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.space import Space
from umbel_testing import BackendSuite
from umbel_testing.backend_waiting_suite import BackendWaitingSuite
from umbel_testing.mutants import Mutants

#: Longer than any test waits; threads that sleep for so long are left to it.
LONG_S = 30.0


def make_backend(kind, clock):
    space = Space()
    return lambda: kind(space, clock)


def each(results, change):
    return [msgspec.structs.replace(one, **change(one)) for one in results]


MUTANTS = Mutants(BackendSuite, BackendWaitingSuite, make_backend)


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


@MUTANTS.caught_by("test_wait_returns_what_is_final_already")
class WaitsForAll(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        found = super().wait(task_ids, timeout_s=timeout_s)
        return found if len(found) == len(task_ids) or timeout_s < 60 else time.sleep(LONG_S)


@MUTANTS.caught_by("test_wait_returns_what_is_final_already")
class ReturnsTheFirstOnly(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        return dict(list(super().wait(task_ids, timeout_s=timeout_s).items())[:1])


@MUTANTS.caught_by(
    "test_each_final_state_ends_a_wait",
    "test_wait_that_may_not_wait_looks_once",
)
class NeverLooksAtOnce(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        return super().wait(task_ids, timeout_s=timeout_s) if timeout_s else {}


@MUTANTS.caught_by(
    "test_all_who_wait_for_a_result_get_it",
    "test_wait_is_ended_by_a_result_from_elsewhere",
)
class HearsNothing(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        found = super().wait(task_ids, timeout_s=0)
        if not found:
            time.sleep(min(timeout_s, LONG_S))
        return found


@MUTANTS.caught_by("test_each_final_state_ends_a_wait")
class TakesRejectedForUnfinal(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        found = super().wait(task_ids, timeout_s=timeout_s)
        return {key: one for key, one in found.items() if one.state not in ("REJECTED", "IGNORED")}


@MUTANTS.caught_by(
    "test_unfinal_result_does_not_end_a_wait",
    "test_wait_returns_what_is_final_already",
)
class EndsWithAnything(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        ends_at = time.monotonic() + timeout_s
        while not (found := self.load(task_ids)) and time.monotonic() < ends_at:
            time.sleep(0.005)
        return found


@MUTANTS.caught_by("test_wait_lasts_no_longer_than_it_may")
class WaitsTooLong(MemoryBackend):
    def wait(self, task_ids, *, timeout_s):
        return super().wait(task_ids, timeout_s=timeout_s * 100)


@MUTANTS.caught_by(
    "test_interrupt_ends_a_wait_empty",
    "test_interrupted_handle_waits_on",
)
class CannotBeInterrupted(MemoryBackend):
    def interrupt(self):
        pass


@MUTANTS.caught_by("test_interrupted_handle_waits_on")
class StaysInterrupted(MemoryBackend):
    over = False

    def interrupt(self):
        self.over = True
        super().interrupt()

    def wait(self, task_ids, *, timeout_s):
        return {} if self.over else super().wait(task_ids, timeout_s=timeout_s)


@MUTANTS.caught_by("test_interrupt_of_one_handle_leaves_others_waiting")
class InterruptsEverybody(MemoryBackend):
    def __init__(self, space, clock):
        super().__init__(space, clock)
        self.others = space.messages.__dict__.setdefault("handles", [])
        self.others.append(self)
        self.over = False

    def interrupt(self):
        for handle in self.others:
            handle.over = True
            MemoryBackend.interrupt(handle)

    def wait(self, task_ids, *, timeout_s):
        found = super().wait(task_ids, timeout_s=timeout_s)
        return {} if self.over else found


@MUTANTS.caught_by("test_all_who_wait_for_a_result_get_it")
class TellsOneOnly(MemoryBackend):
    told: ClassVar[set] = set()

    def wait(self, task_ids, *, timeout_s):
        found = super().wait(task_ids, timeout_s=timeout_s)
        new = {key: one for key, one in found.items() if key not in self.told}
        self.told.update(new)
        return new


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_fault_is_caught(mutant):
    MUTANTS.check(mutant)


def test_every_test_catches_a_fault():
    assert MUTANTS.uncaught() == set()
