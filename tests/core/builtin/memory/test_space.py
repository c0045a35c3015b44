"""Who shares a space with whom, and how long it lasts."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.builtin.memory.space import open_space
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import ConfigError


class Scope:
    pass


def test_handles_of_one_scope_and_url_share_a_space():
    scope = Scope()

    assert open_space("memory://", {"_scope": scope}) is open_space("memory://", {"_scope": scope})


def test_two_scopes_share_nothing():
    first, second = Scope(), Scope()

    assert open_space("memory://x", {"_scope": first}) is not open_space(
        "memory://x", {"_scope": second}
    )


def test_two_names_in_one_scope_share_nothing():
    options = {"_scope": Scope()}

    assert open_space("memory://one", options) is not open_space("memory://two", options)


@pytest.mark.parametrize("url", ["memory://name", "memory://name/", "memory:///name"])
def test_slashes_around_a_name_mean_nothing(url):
    options = {"_scope": Scope()}

    assert open_space(url, options) is open_space("memory://name", options)


def test_without_scope_the_url_is_the_key():
    assert open_space("memory://only-url", {}) is open_space("memory://only-url", {})


def test_space_is_freed_with_its_scope_and_handles():
    scope = Scope()
    space = weakref.ref(open_space("memory://", {"_scope": scope}))
    assert space() is not None
    del scope
    gc.collect()

    assert space() is None


def test_space_outlives_the_handles_of_a_living_scope():
    scope = Scope()
    space = weakref.ref(open_space("memory://", {"_scope": scope}))
    gc.collect()

    assert open_space("memory://", {"_scope": scope}) is space()


@pytest.mark.parametrize(
    "url",
    ["memory://user:secret@name", "memory://name?fast=1", "memory://name?", "redis://name"],
)
def test_url_with_more_than_a_name_is_refused_without_showing_it(url):
    if url.endswith("?"):
        assert open_space(url, {}) is open_space("memory://name", {})
        return
    with pytest.raises(ConfigError, match="memory://name") as refusal:
        open_space(url, {})

    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("kind", [MemoryBroker, MemoryBackend, MemoryCoordinator])
def test_unknown_option_is_named(kind):
    with pytest.raises(ConfigError, match="'visibility_timeout'"):
        kind.from_url("memory://", options={"visibility_timeout": 5}, clock=SYSTEM_CLOCK)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_begins_empty():
    scope = Scope()
    space = open_space("memory://", {"_scope": scope})
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        same = open_space("memory://", {"_scope": scope}) is space
        os.write(writer, b"same" if same else b"other")
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)

    assert os.read(reader, 10) == b"other"
    os.close(reader)
    assert open_space("memory://", {"_scope": scope}) is space
