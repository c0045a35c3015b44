"""Clients of the servers of these tests."""

from __future__ import annotations

import pytest
from scripted_server import ScriptedServer

from umbel_redis_client import Client, parse_url


@pytest.fixture
def open_client():
    """Return a function that makes a client; all are closed after the test."""
    made = []

    def make(url, **options):
        made.append(Client(parse_url(url, options, ignored=frozenset())))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(redis_server, open_client):
    """Return a client of a plain server."""
    return open_client(redis_server.url)


@pytest.fixture
def scripted():
    """Return a function that starts a server which answers as told; all are ended."""
    made = []

    def start(answer):
        made.append(ScriptedServer(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()
