"""Read URLs and transport options into an address: which servers, and how to talk to them."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from umbel.errors import ConfigError
from umbel.redaction import mask_url
from umbel_redis_client.options import read_options

_PORT = 6379
_SENTINEL_PORT = 26379
#: Celery writes a list of sentinels as several URLs; the first says who asks.
_SEVERAL = re.compile(r";(?:sentinel://)?(?:[^@;/?]*@)?")
#: A password in a URL that can't be read must not be in the error either.
_ESCAPE = "; where the password holds one of @ : / ? # %, write it as %40 %3A %2F %3F %23 %25"


class Endpoint(NamedTuple):
    """One place to connect to: a host and port, or the path of a Unix socket."""

    host: str
    port: int = _PORT
    path: str | None = None

    def __str__(self) -> str:
        return self.path if self.path is not None else f"{self.host}:{self.port}"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How a server's certificate is checked, and what is shown to it."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    #: ``"required"``, ``"optional"`` or ``"none"``.
    cert_reqs: str = "required"
    check_hostname: bool = True


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers a URL names, and how to talk to them."""

    #: One server; with `master` the sentinels, with `is_cluster` some nodes of it.
    endpoints: tuple[Endpoint, ...]
    #: Name of the master that the sentinels know.
    master: str | None = None
    is_cluster: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    #: Seconds to wait for an answer, and for a connection.
    timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    #: Stands before every key and channel.
    prefix: str = ""
    #: For messages: what the user wrote, without secrets.
    shown: str = ""


def parse_url(url: str, options: Mapping[str, Any], *, ignored: frozenset[str]) -> Address:
    """Return the address that `url` names; its parameters win over `options`.

    Args:
        url: As in this package's README.
        options: ``broker_transport_options`` or ``result_backend_transport_options``.
        ignored: Names of options that belong to the caller.
    Raises: ConfigError: the URL isn't of such a form, or an option is unknown or wrong.
    """
    scheme = url.partition("://")[0].lower()
    shown = mask_url(url)
    parts = _split(_SEVERAL.sub(",", url) if scheme == "sentinel" else url, shown)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    read = read_options({**options, **query}, ignored=ignored)
    user, separator, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":") if separator else ("", "", "")
    is_socket = scheme == "redis+socket"
    if is_socket:
        _check_socket(hosts, parts.path, shown)
    is_sentinel, is_cluster = scheme == "sentinel", scheme.endswith("+cluster")
    if is_sentinel and not read.master:
        raise ConfigError(
            f"the URL {shown!r} doesn't say which master the sentinels are to be asked for; "
            f"end it with '?master=name'"
        )
    path = unquote(parts.path) if is_socket else None
    endpoints = (
        (Endpoint("localhost", 0, path),)
        if is_socket
        else _endpoints(hosts, _SENTINEL_PORT if is_sentinel else _PORT, shown)
    )
    db = read.db if is_socket else _database(parts.path.strip("/"), read.db, shown)
    if is_cluster and db:
        raise ConfigError(f"the URL {shown!r} names database {db}; a Redis Cluster has only 0")
    has_tls = scheme.startswith("rediss") or read.wants_tls
    if read.tls and not has_tls:
        raise ConfigError(
            f"the URL {shown!r} is one without TLS, and yet there are options for it: "
            f"{', '.join(f'ssl_{name}' for name in read.tls)}; write 'rediss://' or set ssl=true"
        )
    return Address(
        endpoints=endpoints,
        master=read.master if is_sentinel else None,
        is_cluster=is_cluster,
        db=db,
        username=unquote(name) or read.username,
        password=unquote(password) or read.password,
        tls=Tls(**read.tls) if has_tls else None,
        sentinel_username=read.sentinel_username,
        sentinel_password=read.sentinel_password,
        timeout_s=read.timeout_s,
        connect_timeout_s=read.connect_timeout_s,
        prefix=read.prefix,
        shown=shown,
    )


def _split(url: str, shown: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ConfigError(f"the URL {shown!r} can't be read{_ESCAPE}") from None


def _check_socket(host: str, path: str, shown: str) -> None:
    if host or not path:  # with two slashes the first folder of the path stands for a host
        raise ConfigError(
            f"the URL {shown!r} names no socket: write 'redis+socket:///path/to/redis.sock'"
        )
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(f"the URL {shown!r} names a Unix socket, which this system hasn't got")


def _endpoints(hosts: str, default_port: int, shown: str) -> tuple[Endpoint, ...]:
    found = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            found.append(Endpoint(parts.hostname or "localhost", parts.port or default_port))
        except ValueError:  # its text may hold a part of a password that wasn't escaped
            raise ConfigError(f"the URL {shown!r} has no usable host and port{_ESCAPE}") from None
    return tuple(found)


def _database(text: str, default: int, shown: str) -> int:
    if not text:
        return default
    if not text.isdecimal():
        raise ConfigError(f"the URL {shown!r} names a database that isn't a number{_ESCAPE}")
    return int(text)
