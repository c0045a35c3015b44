"""The pools of core keep the contract."""

from __future__ import annotations

import pytest

from umbel.builtin.asyncio_pool import AsyncioPool
from umbel.builtin.thread_pool import ThreadPool
from umbel_testing import PoolSuite


class TestThreadPool(PoolSuite):
    @pytest.fixture
    def make_pool(self):
        return ThreadPool


class TestAsyncioPool(PoolSuite):
    @pytest.fixture
    def make_pool(self):
        return AsyncioPool
