"""Private Redis servers: plain, with passwords, over TLS, on a socket file, with an append-only file.

Each has `url`, `kill`, `restart`, `pause`, `resume`, `command`, `config_set`, `reset`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import redis
from certificates import Certificates
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from server_process import ServerProcess

#: What every server of ours is told: nothing is kept, and nobody else gets in.
BASE = ("bind 127.0.0.1", 'save ""', "daemonize no", "repl-diskless-sync-delay 0")
AOF = ("appendonly yes", "appendfsync always")


class RedisServer(ServerProcess):
    """A Redis on a port, without a password; `lines` are added to its configuration."""

    def __init__(self, folder: Path, *lines: str):
        super().__init__(folder)
        self.lines = lines
        self._configured: dict[str, str] = {}

    # -- the process --------------------------------------------------------------------------

    def configuration(self) -> list[str]:
        """Return the lines of its configuration file."""
        return [*BASE, f"dir {self.folder}", f"port {self.port}", *self.lines]

    def command(self) -> list[str]:
        """Return the program and its arguments, having written its configuration file.

        Once written it stays, with what a Sentinel may have written into it, as long as its port.
        """
        path = self.folder / f"redis-{self.port}.conf"
        if not path.exists():
            path.write_text("\n".join(self.configuration()) + "\n")
        return [shutil.which("redis-server") or "redis-server", str(path)]

    def answers(self) -> bool:
        """Tell whether it has loaded its data and answers."""
        try:
            with self.client(socket_timeout=2.0) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def lost_its_port(self, log: str) -> bool:
        """Tell from its log whether somebody else had its port."""
        return "Address already in use" in log

    # -- for clients --------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the plugins find it; database 0."""
        return self.url_of(0)

    def url_of(self, db: int, port: int | None = None) -> str:
        """Return the URL of one of its 16 databases; `port`: that of a proxy in front of it."""
        return f"redis://127.0.0.1:{port or self.port}/{db}"

    def client_options(self) -> Mapping[str, Any]:
        """Return what ``redis.Redis`` needs to be let in."""
        return {"host": "127.0.0.1", "port": self.port}

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that tries nothing twice; to be closed."""
        once = Retry(NoBackoff(), 0)
        given = {"socket_timeout": 30.0, "retry": once, **self.client_options(), **options}
        return redis.Redis(**given)

    def run(self, *words: str | int | bytes) -> Any:
        """Run a command over a connection of its own."""
        with self.client() as client:
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        with self.client() as client:
            return dict(client.info(section))

    # -- between tests ------------------------------------------------------------------------

    def config_set(self, name: str, value: str | int) -> None:
        """Change a parameter until `reset`."""
        with self.client() as client:
            if name not in self._configured:
                self._configured[name] = client.config_get(name)[name]
            client.config_set(name, value)

    def flush(self) -> None:
        """Forget all keys."""
        self.run("FLUSHALL")

    def reset(self) -> None:
        """Be as new: up, with the parameters it started with, and empty."""
        self.resume()
        if self.pid is None:
            self.start(any_port=False)
        with self.client() as client:  # one for all: over TLS, each costs 30 ms
            while self._configured:
                client.config_set(*self._configured.popitem())
            client.execute_command("CLIENT", "UNPAUSE")
            client.flushall()


class PasswordRedis(RedisServer):
    """A Redis that asks for a password; it knows the user ``default``, and ``worker`` as well."""

    #: With what a URL has to escape.
    password = "s3cret/@:%"
    user, user_password = "worker", "w0rker"
    rights = ("on", f">{user_password}", "~*", "&*", "+@all", "-@dangerous", "+info", "+client")

    def configuration(self) -> list[str]:
        """Return the lines of its configuration file."""
        user = f"user {self.user} {' '.join(self.rights)}"
        return [*super().configuration(), f"requirepass {self.password}", user]

    def reset(self) -> None:
        """Be as new, with the rights of the user ``worker`` as well."""
        super().reset()
        self.run("ACL", "SETUSER", self.user, "reset", *self.rights)

    def url_of(self, db: int, port: int | None = None) -> str:
        """Return the URL of a database, with the password of the user ``default``."""
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{port or self.port}/{db}"

    @property
    def user_url(self) -> str:
        """The URL with the name and password of the user ``worker``."""
        return f"redis://{self.user}:{self.user_password}@127.0.0.1:{self.port}/0"

    @property
    def wrong_url(self) -> str:
        """A URL that it refuses."""
        return f"redis://:wr0ng@127.0.0.1:{self.port}/0"

    def client_options(self) -> Mapping[str, Any]:
        """Return what ``redis.Redis`` needs to be let in."""
        return {**super().client_options(), "password": self.password}


class TlsRedis(RedisServer):
    """A Redis that speaks TLS only, with a certificate for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path, *lines: str):
        super().__init__(folder, *lines)
        self.certificates = Certificates(folder / "tls")

    def configuration(self) -> list[str]:
        """Return the lines of its configuration file."""
        made = self.certificates
        return [
            *super().configuration(),
            f"tls-cert-file {made.server}",
            f"tls-key-file {made.server_key}",
            f"tls-ca-cert-file {made.ca}",
            "tls-auth-clients optional",
            "port 0",
            f"tls-port {self.port}",
        ]

    def url_of(self, db: int, port: int | None = None) -> str:
        """Return the URL of a database, with the authority that a client is to trust."""
        trust = urlencode({"ssl_cert_reqs": "required", "ssl_ca_certs": self.certificates.ca})
        return f"rediss://127.0.0.1:{port or self.port}/{db}?{trust}"

    def client_options(self) -> Mapping[str, Any]:
        """Return what ``redis.Redis`` needs to be let in."""
        trusted = {"ssl": True, "ssl_ca_certs": str(self.certificates.ca)}
        return {**super().client_options(), **trusted}


class SocketRedis(RedisServer):
    """A Redis on a socket file and no port."""

    @property
    def path(self) -> Path:
        """The socket file."""
        return self.folder / "redis.sock"

    def configuration(self) -> list[str]:
        """Return the lines of its configuration file."""
        return [*super().configuration(), "port 0", f"unixsocket {self.path}"]

    def url_of(self, db: int, port: int | None = None) -> str:
        """Return the URL of a database, as Celery writes it."""
        return f"redis+socket://{self.path}?virtual_host={db}"

    def client_options(self) -> Mapping[str, Any]:
        """Return what ``redis.Redis`` needs to be let in."""
        return {"unix_socket_path": str(self.path)}
