from __future__ import annotations

import zipfile
from importlib.metadata import entry_points

import pytest

from umbel_cli.entry_points import EntryPoint, find_entry_points

_TEXT = """\
[console_scripts]
umbel = other:main

[umbel]
# a comment
beat = umbel_beat.hooks
redis=umbel_redis.hooks [extra]

[umbel.other]
wrong = not.ours
"""


def test_section_of_plugins_is_read(write, own_folder):
    write("umbel_beat-1.0.dist-info/entry_points.txt", _TEXT)

    assert find_entry_points([str(own_folder)]) == [
        EntryPoint("beat", "umbel_beat.hooks", "umbel-beat"),
        EntryPoint("redis", "umbel_redis.hooks", "umbel-beat"),
    ]


def test_entry_found_twice_counts_once(write, own_folder):
    write("a/x-1.dist-info/entry_points.txt", "[umbel]\nx = x.hooks\n")
    write("b/x-2.egg-info/entry_points.txt", "[umbel]\nx = x.hooks\n")

    found = find_entry_points([str(own_folder / "a"), str(own_folder / "b")])

    assert found == [EntryPoint("x", "x.hooks", "x")]


@pytest.mark.parametrize("place", ["nowhere", ""])
def test_folder_without_packages_has_none(place):
    assert find_entry_points([place]) == []


def test_packages_in_a_zip_file_are_found(own_folder):
    packed = own_folder / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1\n")
        archive.writestr("x-1.dist-info/entry_points.txt", "[umbel]\nx = x.hooks\n")

    assert find_entry_points([str(packed)]) == [EntryPoint("x", "x.hooks", "x")]


def test_the_same_are_found_as_importlib_finds():
    ours = {(entry.name, entry.module) for entry in find_entry_points()}

    assert ours == {(entry.name, entry.value) for entry in entry_points(group="umbel")}
