"""Compression of message bodies and results, under kombu's names and content types.

What comes from outside is untrusted: a body is decompressed up to a bound and no further, so
that a few bytes can't fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from umbel.errors import ConfigError, DecodeError, near_matches

#: Bytes that a body may have when decompressed, unless the caller says otherwise.
MAX_BYTES = 64 * 1024 * 1024
_LZMA_MEMORY = 128 * 1024 * 1024  # bytes; preset 9 needs 65 MiB
_ZSTD_WINDOW_LOG = 27  # 128 MiB, what the format asks every decoder to bear (RFC 8878, 3.1.1.1.2)
_GZIP_OR_ZLIB = 47  # zlib's window bits: 32 for "either header", 15 for the largest window


class _Stream(Protocol):
    """What the decompressors of bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool:
        """Whether all is read."""

    @property
    def unused_data(self) -> bytes:
        """What followed after that."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes."""


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """One way of compressing. The functions import what they need at their first call."""

    #: As it stands in a message's ``compression`` header.
    content_type: str
    #: Names in settings, the usual one first.
    names: tuple[str, ...]
    compress: Callable[[bytes], bytes]
    #: (data, limit) → the bytes, one more than `limit` where there are more.
    decompress: Callable[[bytes, int], bytes]


def compress(name: str, data: bytes) -> tuple[bytes, str]:
    """Compress `data` with the method `name`; return the bytes and their content type.

    Raises: ConfigError: unknown name, or a package that it needs isn't installed.
    """
    codec = codec_named(name)
    return codec.compress(data), codec.content_type


def decompress(content_type: str, data: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what `compress` got.

    Args:
        content_type: As `compress` returned it; a name is taken as well.
        max_bytes: Bound on the size of what is returned.
    Raises: DecodeError: unknown type, malformed or cut off, or larger than `max_bytes`.
        ConfigError: a package that it needs isn't installed.
    """
    codec = _BY_NAME.get(content_type)
    if codec is None:
        raise DecodeError(
            f"compression {content_type!r:.80} is unknown here "
            f"(known: {', '.join(codec.content_type for codec in CODECS)})"
        )
    try:
        plain = codec.decompress(data, max_bytes)
    except (ConfigError, DecodeError):
        raise
    except Exception as exc:  # each library has an error of its own
        raise DecodeError(f"not {codec.names[0]} data: {exc}") from exc
    if len(plain) > max_bytes:
        raise DecodeError(
            f"the data is larger than {max_bytes} bytes when decompressed ({codec.names[0]})"
        )
    return plain


def codec_named(name: str) -> Codec:
    """Return the codec of a name or content type. Raises: ConfigError: there is none."""
    codec = _BY_NAME.get(name)
    if codec is None:
        close = near_matches(name, COMPRESSIONS, limit=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"no compression is named {name!r}{hint} (known: {', '.join(COMPRESSIONS)})"
        )
    return codec


# The libraries are imported when they are first needed: most processes never compress.


def _zlib(data: bytes) -> bytes:
    import zlib  # noqa: PLC0415 - see above

    return zlib.compress(data)


def _unzlib(data: bytes, limit: int) -> bytes:
    import zlib  # noqa: PLC0415 - see above

    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    plain = stream.decompress(data, limit + 1)
    return _whole(plain, stream.eof, stream.unused_data, limit)


def _bzip2(data: bytes) -> bytes:
    import bz2  # noqa: PLC0415 - see above

    return bz2.compress(data)


def _unbzip2(data: bytes, limit: int) -> bytes:
    import bz2  # noqa: PLC0415 - see above

    return _read(bz2.BZ2Decompressor(), data, limit)


def _lzma(data: bytes) -> bytes:
    import lzma  # noqa: PLC0415 - see above

    return lzma.compress(data)


def _unlzma(data: bytes, limit: int) -> bytes:
    import lzma  # noqa: PLC0415 - see above

    return _read(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data, limit)


def _brotli(data: bytes) -> bytes:
    return bytes(_import("brotli").compress(data))


def _unbrotli(data: bytes, limit: int) -> bytes:
    stream = _import("brotli").Decompressor()
    if not hasattr(stream, "can_accept_more_data"):  # came together with bounded output
        raise ConfigError(
            "this brotli can't bound its output; upgrade it with: pip install 'brotli>=1.2'"
        )
    pieces, size, given = [], 0, data
    while size <= limit and not stream.is_finished():
        piece = stream.process(given, output_buffer_limit=limit + 1 - size)
        if not piece and not given:
            break  # cut off
        pieces.append(piece)
        size, given = size + len(piece), b""
    return _whole(b"".join(pieces), stream.is_finished(), b"", limit)


def _zstd(data: bytes) -> bytes:
    return bytes(_zstd_module().compress(data))


def _unzstd(data: bytes, limit: int) -> bytes:
    zstd = _zstd_module()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _read(zstd.ZstdDecompressor(options=options), data, limit)


def _zstd_module() -> Any:
    try:
        return import_module("compression.zstd")  # Python 3.14
    except ImportError:
        return _import("backports.zstd")


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            f"this compression needs the package {module!r}; install it with: pip install {module}"
        ) from None


def _read(stream: _Stream, data: bytes, limit: int) -> bytes:
    return _whole(stream.decompress(data, limit + 1), stream.eof, stream.unused_data, limit)


def _whole(plain: bytes, finished: bool, rest: bytes, limit: int) -> bytes:
    """Return `plain` if it is all there was, or more than `limit`. Raises: DecodeError."""
    if len(plain) <= limit:
        if not finished:
            raise DecodeError("compressed data is cut off")
        if rest:
            raise DecodeError(f"{len(rest)} bytes follow after the compressed data")
    return plain


CODECS: tuple[Codec, ...] = (
    Codec(
        content_type="application/x-gzip",
        names=("gzip", "zlib"),
        compress=_zlib,
        decompress=_unzlib,
    ),
    Codec(
        content_type="application/x-bz2",
        names=("bzip2", "bzip"),
        compress=_bzip2,
        decompress=_unbzip2,
    ),
    Codec(
        content_type="application/x-lzma",
        names=("lzma", "xz"),
        compress=_lzma,
        decompress=_unlzma,
    ),
    Codec(
        content_type="application/x-brotli",
        names=("brotli",),
        compress=_brotli,
        decompress=_unbrotli,
    ),
    Codec(
        content_type="application/zstd",
        names=("zstd", "zstandard"),
        compress=_zstd,
        decompress=_unzstd,
    ),
)
#: All names that a setting may have; the packages of some may be missing.
COMPRESSIONS: tuple[str, ...] = tuple(name for codec in CODECS for name in codec.names)
_BY_NAME: Mapping[str, Codec] = MappingProxyType(
    {key: codec for codec in CODECS for key in (codec.content_type, *codec.names)}
)
