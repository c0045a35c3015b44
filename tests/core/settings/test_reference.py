"""The reference page has everything."""

from __future__ import annotations

import pytest

from umbel.settings import Setting
from umbel.settings.environment import NOT_SETTINGS
from umbel.settings.reference import settings_reference
from umbel.settings.table import SETTINGS


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_setting_is_on_the_page(row: Setting) -> None:
    page = settings_reference()

    assert f"### `{row.name}`\n\n{row.help}\n" in page


@pytest.mark.parametrize("variable", NOT_SETTINGS)
def test_variables_that_are_no_settings_are_on_the_page(variable: str) -> None:
    assert f"- `{variable}`: " in settings_reference()


def test_facts_of_a_setting_are_given() -> None:
    row = Setting(
        name="demo_wait",
        type=float | None,
        default=20.0,
        help="How long to wait.",
        unit="seconds",
        minimum=0.5,
        maximum=60,
        aliases=((0.0, None),),
        celery_default_differs="4",
        group="demo",
    )

    assert (
        "## Demo\n\n### `demo_wait`\n\nHow long to wait.\n\n"
        "Type: number of seconds or None; default: `20`; at least 0.5; at most 60; "
        "`0` means `None`; Celery's default: 4.\n"
    ) in settings_reference([row])
