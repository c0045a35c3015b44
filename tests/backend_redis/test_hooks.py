"""What the package offers to umbel."""

from __future__ import annotations

import pytest

import umbel_redis_client
from umbel.clock import SYSTEM_CLOCK
from umbel.errors import ConfigError
from umbel.plugins import EXTRAS
from umbel_backend_redis import hooks
from umbel_backend_redis.backend import RedisBackend


def test_every_form_of_a_redis_url_is_offered():
    assert hooks.SCHEMES == umbel_redis_client.SCHEMES
    assert tuple(hooks.umbel_backends()) == hooks.SCHEMES
    assert tuple(hooks.umbel_coordinators()) == hooks.SCHEMES


def test_extra_that_brings_it_is_proposed_for_every_form():
    assert {EXTRAS.get(scheme) for scheme in hooks.SCHEMES} == {"redis"}


def test_backend_is_made_without_a_server():
    factory = hooks.umbel_backends()["redis+cluster"]
    backend = factory("redis+cluster://localhost:1,localhost:2", options={}, clock=SYSTEM_CLOCK)

    assert isinstance(backend, RedisBackend)
    backend.close()


def test_options_of_celerys_backend_are_understood():
    options = {"global_keyprefix": "shop", "result_chord_ordered": False, "retry_policy": {}}
    RedisBackend("redis://localhost:1", options=options, clock=SYSTEM_CLOCK).close()

    with pytest.raises(ConfigError, match="result_chord_orderd"):
        RedisBackend("redis://h", options={"result_chord_orderd": 1}, clock=SYSTEM_CLOCK)
