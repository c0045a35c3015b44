"""Read transport options and URL parameters, under Celery's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from umbel.errors import ConfigError, near_matches

#: Options of Celery's Redis transport and client that mean nothing here, and are passed over so
#: that a fleet can keep its settings.
_WITHOUT_MEANING = frozenset(
    {
        "ack_emulation",
        "fanout_patterns",
        "fanout_prefix",
        "health_check_interval",
        "max_connections",
        "max_retries",
        "interval_start",
        "interval_step",
        "interval_max",
        "polling_interval",
        "retry_on_timeout",
        "retry_policy",
        "sep",
        "socket_keepalive",
        "socket_keepalive_options",
        "unacked_index_key",
        "unacked_key",
        "unacked_mutex_expire",
        "unacked_mutex_key",
        "unacked_restore_limit",
        "visibility_timeout",
    }
)
#: Option to the name of its field in `Tls`.
_TLS = MappingProxyType(
    {
        "ssl_ca_certs": "ca_certs",
        "ssl_certfile": "certfile",
        "ssl_keyfile": "keyfile",
        "ssl_cert_reqs": "cert_reqs",
        "ssl_check_hostname": "check_hostname",
    }
)
_KNOWN = frozenset(
    {
        "db",
        "global_keyprefix",
        "master",
        "master_name",
        "password",
        "sentinel_kwargs",
        "socket_connect_timeout",
        "socket_timeout",
        "ssl",
        "username",
        "virtual_host",
        *_TLS,
    }
)
_WORDS = MappingProxyType(
    {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What options say, read and checked."""

    master: str | None
    db: int
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    timeout_s: float
    connect_timeout_s: float
    prefix: str
    wants_tls: bool
    tls: dict[str, Any]


def read_options(raw: Mapping[str, Any], *, ignored: frozenset[str]) -> Options:
    """Return what `raw` says. Raises: ConfigError: an option is unknown or wrong."""
    _check_names(raw, _KNOWN | _WITHOUT_MEANING | ignored, "transport option")
    nested = raw.get("ssl")
    if isinstance(nested, Mapping):
        _check_names(nested, frozenset(_TLS), "option of TLS")
    tls = {**raw, **(nested if isinstance(nested, Mapping) else {})}
    sentinel = raw.get("sentinel_kwargs") or {}
    if not isinstance(sentinel, Mapping):  # its text may hold a password
        raise ConfigError(
            "the transport option sentinel_kwargs must be a mapping with username and password; "
            "a URL can't hold one, so set it in the transport options"
        )
    return Options(
        master=_text(raw, "master") or _text(raw, "master_name"),
        db=_database(raw.get("db", raw.get("virtual_host", 0))),
        username=_text(raw, "username"),
        password=_text(raw, "password"),
        sentinel_username=_text(sentinel, "username"),
        sentinel_password=_text(sentinel, "password"),
        timeout_s=_seconds(raw, "socket_timeout"),
        connect_timeout_s=_seconds(raw, "socket_connect_timeout"),
        prefix=_text(raw, "global_keyprefix") or "",
        wants_tls=isinstance(nested, Mapping) or _flag("ssl", nested or False),
        tls={field: _tls(name, tls[name]) for name, field in _TLS.items() if name in tls},
    )


def _check_names(raw: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    for name in raw:
        if name not in known:
            close = near_matches(name, sorted(known), limit=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"Redis has no {what} {name!r}{hint}")


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return None if value is None else str(value)


def _database(value: Any) -> int:
    text = str(value).strip("/") or "0"
    if not text.isdecimal():
        raise ConfigError(f"the transport option db={value!r} must be a number")
    return int(text)


def _seconds(raw: Mapping[str, Any], name: str) -> float:
    value = raw.get(name)
    if value is None:
        return 5.0
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0.0 < seconds <= 3600.0:
        raise ConfigError(f"the transport option {name}={value!r} must be seconds above 0")
    return seconds


def _tls(name: str, value: Any) -> Any:
    if name == "ssl_check_hostname":
        return _flag(name, value)
    if name != "ssl_cert_reqs":
        if value is not None and not Path(str(value)).is_file():
            raise ConfigError(f"{name}={str(value)!r} names no file")
        return None if value is None else str(value)
    # "CERT_NONE" in Celery's URLs, ssl.CERT_NONE in its settings, "none" in redis-py's.
    words = ("none", "optional", "required")
    number = value if isinstance(value, int) else -1
    word = words[number] if 0 <= number < len(words) else str(value).lower()
    word = word.removeprefix("cert_")
    if word not in words:
        raise ConfigError(f"{name}={value!r} must be 'required', 'optional' or 'none'")
    return word


def _flag(name: str, value: Any) -> bool:
    found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if found is None:
        raise ConfigError(f"the option {name}={value!r} must be true or false")
    return found
