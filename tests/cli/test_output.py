from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from umbel_cli.output import moment, print_json, print_table, seconds, shorten


@pytest.mark.parametrize(
    "value, text",
    [
        (None, None),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (200, "3m20s"),
        (18_420, "5h07m"),
        (183_600, "2d03h"),
    ],
)
def test_seconds_are_written_as_people_say_them(value, text):
    assert seconds(value) == text


def test_moment_is_iso_8601_in_utc():
    assert moment(0.0) == "1970-01-01T00:00:00+00:00"


def test_shortened_text_keeps_to_its_width():
    assert shorten("a\n b  c defgh", 8) == "a b c d…"


def test_reader_that_goes_away_is_no_error(own_folder):
    ended = subprocess.run(
        f"{sys.executable} -m umbel config schema | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert len(ended.stdout) == 10
    assert ended.stderr == ""


def test_table_aligns_numbers_right_and_text_left(capsys):
    print_table(("queue", "ready"), [("celery", 7), ("a", 1200), ("b", None)])

    assert capsys.readouterr().out.splitlines() == [
        "queue   ready",
        "celery      7",
        "a        1200",
        "b           -",
    ]


def test_json_stands_for_what_it_has_no_form_for(capsys):
    print_json({"at": datetime(2031, 5, 6, tzinfo=UTC), "n": Decimal("1.5"), "b": b"x", "s": {1}})

    assert json.loads(capsys.readouterr().out) == {
        "at": "2031-05-06T00:00:00+00:00",
        "n": "1.5",
        "b": "x",
        "s": [1],
    }
