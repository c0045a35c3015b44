"""Time zones are checked against those of the machine."""

from __future__ import annotations

import struct
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from umbel.errors import ConfigError
from umbel.settings import Settings

MakeConf = Callable[..., Settings]


@pytest.fixture(autouse=True)
def mars(tmp_path: Path) -> Iterator[None]:
    """Let the machine know one more time zone, and none but that from the system."""
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    zone = tmp_path / "zones" / "Mars" / "Phobos"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(header + struct.pack(">lbb", 3600, 0, 0) + b"MAR\0")
    zoneinfo.reset_tzpath(to=[str(tmp_path / "zones")])
    yield
    zoneinfo.reset_tzpath()


def test_zone_of_the_machine_is_taken(make_conf: MakeConf) -> None:
    assert make_conf(timezone="Mars/Phobos").timezone == "Mars/Phobos"


@pytest.mark.parametrize("name", ["Mars/Phobs", "../../etc/passwd", "", "Mars"])
def test_unknown_zone_is_an_error(name: str, make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError, match=f"timezone is '{name}', which is no time zone"):
        make_conf(timezone=name).finalize()


def test_misspelt_zone_is_an_error_with_the_right_name(make_conf: MakeConf) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'Mars/Phobos'\?"):
        make_conf(timezone="Mars/Phobs").finalize()
