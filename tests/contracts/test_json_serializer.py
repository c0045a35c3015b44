"""The JSON serializer keeps the contract, with all types but those that Celery refuses too."""

from __future__ import annotations

from datetime import timedelta

import pytest

from umbel.builtin.json_serializer import JsonSerializer
from umbel_testing import SerializerSuite
from umbel_testing.serializer_suite import EXTENDED


class TestJsonSerializer(SerializerSuite):
    extended_types = frozenset(EXTENDED) - {timedelta}

    @pytest.fixture
    def make_serializer(self):
        return JsonSerializer
