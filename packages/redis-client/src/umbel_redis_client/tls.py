"""Connections through TLS. Imported when an address asks for it."""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from umbel_redis_client.addresses import Endpoint, Tls
from umbel_redis_client.connection import Connection


class TlsConnection(Connection):
    """A connection over a TLS socket."""

    __slots__ = ()

    _WOULD_BLOCK: ClassVar[tuple[type[Exception], ...]] = (BlockingIOError, ssl.SSLWantReadError)
    _IS_PLAIN: ClassVar[bool] = False


def secured(sock: socket.socket, endpoint: Endpoint, tls: Tls, *, room: int) -> Connection:
    """Return a connection over `sock` after the handshake; where that fails, `sock` is closed.

    Raises: OSError: the handshake failed, or a certificate can't be read.
    """
    try:
        context = _context(tls, _changed_at(tls))
        wrapped = context.wrap_socket(sock, server_hostname=endpoint.host)
    except TimeoutError:
        sock.close()
        raise OSError("no answer to a TLS handshake; is there TLS at this port?") from None
    except BaseException:
        sock.close()
        raise
    return TlsConnection(wrapped, endpoint, room=room)


def _changed_at(tls: Tls) -> tuple[float, ...]:
    """Return when the certificates were replaced last: a worker outlives them."""
    paths = (tls.ca_certs, tls.certfile, tls.keyfile)
    return tuple(Path(path).stat().st_mtime for path in paths if path is not None)


@lru_cache(maxsize=8)  # to read all authorities that a system trusts takes 10 ms
def _context(tls: Tls, changed_at: tuple[float, ...]) -> ssl.SSLContext:  # noqa: ARG001 - its key
    context = ssl.create_default_context(cafile=tls.ca_certs)
    context.check_hostname = tls.check_hostname and tls.cert_reqs != "none"
    context.verify_mode = ssl.VerifyMode[f"CERT_{tls.cert_reqs.upper()}"]
    if tls.certfile is not None:
        context.load_cert_chain(tls.certfile, tls.keyfile)
    return context
