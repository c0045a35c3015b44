"""The table of settings: every row makes sense by itself."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from umbel.settings import Setting, Settings
from umbel.settings.attributes import SettingAttributes
from umbel.settings.celery_names import instead
from umbel.settings.forms import check_form
from umbel.settings.layers import Given
from umbel.settings.resolve import read
from umbel.settings.table import SETTINGS

rows = pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)


def test_names_are_unique() -> None:
    names = [row.name for row in SETTINGS]

    assert len(names) == len(set(names))


def test_typed_attributes_and_table_agree() -> None:
    assert get_type_hints(SettingAttributes) == {row.name: row.type for row in SETTINGS}


@rows
def test_type_is_one_that_settings_can_have(row: Setting) -> None:
    check_form(row.type)


@rows
def test_default_is_allowed(row: Setting) -> None:
    value = read(row, Given(value=row.default, source="default", written=row.name))

    assert value == (tuple(row.default) if isinstance(row.default, list) else row.default)


@rows
def test_help_is_one_plain_line(row: Setting) -> None:
    assert row.help[0].isupper() or row.help[0].isdigit() or row.help[0] == "`"
    assert row.help.endswith((".", "`)."))
    assert "\n" not in row.help
    assert "  " not in row.help


@rows
def test_group_is_named(row: Setting) -> None:
    assert row.group in {"general", "broker", "canvas", "results", "tasks", "worker"}


@rows
def test_name_clashes_with_no_method(row: Setting) -> None:
    assert not hasattr(Settings, row.name)


@rows
def test_setting_is_not_told_to_be_absent(row: Setting) -> None:
    assert instead(row.name) is None


@rows
def test_default_of_none_is_explained(row: Setting) -> None:
    if row.default is None:
        assert row.default_text


@rows
def test_aliases_mean_allowed_values(row: Setting) -> None:
    for alias, meaning in row.aliases:
        given = Given(value=alias, source="test", written=row.name)
        assert read(row, given) == meaning


@pytest.mark.parametrize(
    "name,default",
    [
        ("broker_url", "sqlite://"),
        ("result_backend", "sqlite://"),
        ("task_default_queue", "celery"),
        ("task_serializer", "json"),
        ("accept_content", ("json",)),
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("task_max_deliveries", 3),
        ("task_track_started", True),
        ("task_publish_retry", True),
        ("result_extended", True),
        ("result_expires", 86400.0),
        ("worker_prefetch_multiplier", None),
        ("worker_lease_s", 15.0),
        ("worker_hijack_root_logger", False),
        ("worker_proc_alive_timeout", 60.0),
        ("worker_deduplicate_successful_tasks", True),
    ],
)
def test_defaults_that_the_design_promises(name: str, default: object, conf: Settings) -> None:
    assert conf[name] == default
