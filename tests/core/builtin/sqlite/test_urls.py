from __future__ import annotations

import os
from pathlib import Path

import pytest

from umbel.builtin.sqlite.urls import Location, parse_url
from umbel.errors import ConfigError


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "SQLite://"])
def test_bare_url_is_the_default_file_in_the_working_directory(url, tmp_path):
    assert parse_url(url) == Location(path=str(tmp_path / ".umbel" / "umbel.db"))


def test_three_slashes_are_relative_to_the_working_directory(tmp_path):
    assert parse_url("sqlite:///data/jobs.db").path == str(tmp_path / "data" / "jobs.db")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX path")
def test_four_slashes_are_absolute():
    assert parse_url("sqlite:////var/lib/jobs.db").path == "/var/lib/jobs.db"


def test_location_stays_when_the_working_directory_changes(tmp_path, monkeypatch):
    location = parse_url("sqlite:///jobs.db")
    monkeypatch.chdir(Path.home())

    assert location.path == str(tmp_path / "jobs.db")


def test_path_may_hold_escaped_characters(tmp_path):
    assert parse_url("sqlite:///a%20b%3Fc%23d.db").path == str(tmp_path / "a b?c#d.db")


def test_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))

    assert parse_url("sqlite:///~/jobs.db").path == str(tmp_path / "home" / "jobs.db")


def test_parameters_are_read_and_win_over_options():
    location = parse_url(
        "sqlite:///a.db?synchronous=FULL&busy_timeout_s=2.5",
        {"synchronous": "normal", "busy_timeout_s": 9},
    )

    assert (location.synchronous, location.busy_timeout_s) == ("full", 2.5)


def test_options_count_where_the_url_says_nothing():
    location = parse_url("sqlite:///a.db", {"synchronous": "normal", "busy_timeout_s": 9})

    assert (location.synchronous, location.busy_timeout_s) == ("normal", 9.0)


@pytest.mark.parametrize(
    "url, options, said",
    [
        ("sqlite:///a.db?synchronus=full", {}, "did you mean 'synchronous'"),
        ("sqlite:///a.db?wal=1", {}, "known: synchronous, busy_timeout_s"),
        ("sqlite:///a.db", {"visibility_timeout": 5}, "no parameter 'visibility_timeout'"),
        ("sqlite:///a.db?synchronous=off", {}, "must be 'full' or 'normal'"),
        ("sqlite:///a.db?busy_timeout_s=soon", {}, "busy_timeout_s='soon'"),
        ("sqlite:///a.db?busy_timeout_s=-1", {}, "between 0 and 3600"),
        ("sqlite:///a.db?busy_timeout_s=nan", {}, "between 0 and 3600"),
        ("sqlite:///a.db", {"busy_timeout_s": True}, "busy_timeout_s=True"),
        ("sqlite:///:memory:", {}, "use 'memory://'"),
        ("sqlite:///a%00b.db", {}, "null character"),
        ("sqlite:a.db", {}, "begins with 'sqlite://'"),
        ("redis:///a.db", {}, "begins with 'sqlite://'"),
    ],
)
def test_wrong_url_is_told(url, options, said):
    with pytest.raises(ConfigError, match=said):
        parse_url(url, options)


def test_host_is_refused_without_repeating_what_may_be_a_password():
    with pytest.raises(ConfigError, match="three slashes") as caught:
        parse_url("sqlite://user:secret@host/jobs.db")

    assert "secret" not in str(caught.value)
