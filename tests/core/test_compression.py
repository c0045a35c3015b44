from __future__ import annotations

import gzip
import os
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel import compression
from umbel.compression import CODECS, COMPRESSIONS, compress, decompress
from umbel.errors import ConfigError, DecodeError


def is_installed(name: str) -> bool:
    if name == "brotli":
        return find_spec("brotli") is not None
    if name in ("zstd", "zstandard"):
        return any(find_spec(top) for top in ("compression", "backports")) and bool(_zstd())
    return True


def _zstd() -> object:
    try:
        return compression._zstd_module()
    except ConfigError:
        return None


INSTALLED = [name for name in COMPRESSIONS if is_installed(name)]

# Made by kombu 5.7.0 of b"hello" * 10.
KOMBU = [
    ("application/x-gzip", "789ccb48cdc9c9cf20850000116a14c9"),
    (
        "application/x-bz2",
        "425a6839314159265359fb18f31d00000981000244a00020a500cd34c4e4d4e278bb9229c28487d8c798e8",
    ),
    (
        "application/x-lzma",
        (
            "fd377a585a000004e6d6b4460200210116000000742fe5a3e00031000b5d00341949ee8e9a327080000000"
            "007056109030fa51fe00012732ce5694321fb6f37d010000000004595a"
        ),
    ),
    ("application/x-brotli", "1b3100f8a5cbd0d8de843b51c0490d"),
]


@pytest.mark.parametrize("name", INSTALLED)
@given(data=st.binary())
def test_what_is_compressed_comes_back(name: str, data: bytes) -> None:
    packed, content_type = compress(name, data)

    assert decompress(content_type, packed) == data


@pytest.mark.parametrize("name", INSTALLED)
def test_text_gets_smaller(name: str) -> None:
    assert len(compress(name, b"hello " * 1000)[0]) < 200


@pytest.mark.parametrize(
    "name, content_type",
    [
        ("gzip", "application/x-gzip"),
        ("zlib", "application/x-gzip"),
        ("bzip2", "application/x-bz2"),
        ("bzip", "application/x-bz2"),
        ("lzma", "application/x-lzma"),
        ("xz", "application/x-lzma"),
    ],
)
def test_content_types_are_kombus(name: str, content_type: str) -> None:
    assert compress(name, b"x")[1] == content_type


@pytest.mark.parametrize("name", INSTALLED)
class TestBombs:
    def test_output_is_bounded(self, name: str) -> None:
        packed, content_type = compress(name, b"\0" * 5_000_000)

        with pytest.raises(DecodeError, match="larger than 1000 bytes"):
            decompress(content_type, packed, max_bytes=1000)

    def test_the_bound_itself_is_allowed(self, name: str) -> None:
        packed, content_type = compress(name, os.urandom(100_000))

        assert len(decompress(content_type, packed, max_bytes=100_000)) == 100_000
        with pytest.raises(DecodeError, match="larger"):
            decompress(content_type, packed, max_bytes=99_999)

    def test_data_that_is_cut_off_is_refused(self, name: str) -> None:
        packed, content_type = compress(name, os.urandom(1000))

        for end in (0, 1, len(packed) // 2, len(packed) - 1):
            with pytest.raises(DecodeError):
                decompress(content_type, packed[:end])

    def test_data_of_another_kind_is_refused(self, name: str) -> None:
        content_type = compress(name, b"x")[1]

        with pytest.raises(DecodeError, match=name if name not in _SECOND_NAMES else "data"):
            decompress(content_type, b"this is not compressed at all")

    def test_a_body_followed_by_something_is_refused(self, name: str) -> None:
        packed, content_type = compress(name, b"hello")

        with pytest.raises(DecodeError):
            decompress(content_type, packed + b"more")


_SECOND_NAMES = {name for codec in CODECS for name in codec.names[1:]}


@pytest.mark.parametrize(
    "content_type, packed",
    [each for each in KOMBU if is_installed("brotli") or "brotli" not in each[0]],
)
def test_reads_what_kombu_wrote(content_type: str, packed: str) -> None:
    assert decompress(content_type, bytes.fromhex(packed)) == b"hello" * 10


def test_reads_the_gzip_format_too() -> None:
    assert decompress("application/x-gzip", gzip.compress(b"hello")) == b"hello"


def test_an_unknown_name_proposes_the_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gzip'"):
        compress("gzp", b"x")


def test_an_unknown_content_type_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="'application/x-rar' is unknown"):
        decompress("application/x-rar", b"x")


@pytest.mark.parametrize("name", ["brotli", "zstd"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: str) -> object:
        raise ImportError(module)

    monkeypatch.setattr(compression, "import_module", refuse)

    with pytest.raises(ConfigError, match="pip install"):
        compress(name, b"x")
    with pytest.raises(ConfigError, match="pip install"):
        decompress(name, b"x")
