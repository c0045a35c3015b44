"""Who is let in, and by which way: TCP, TLS and sockets, with passwords and without."""

from __future__ import annotations

import shutil

import pytest
from tcp_proxy import TcpProxy

from umbel_redis_client import ConnectionLostError, ReplyError
from umbel_redis_client.tls import _changed_at, _context


def test_socket_leads_to_its_databases(redis_socket, open_client):
    for db in (0, 3):
        client = open_client(redis_socket.url_of(db))
        client.call("key", "SET", "key", db)
        assert client.call("key", "GET", "key") == str(db).encode()


def test_socket_that_is_not_there_is_lost(open_client, tmp_path):
    with pytest.raises(ConnectionLostError, match="No such file"):
        open_client(f"redis+socket://{tmp_path}/none.sock").call("", "PING")


def test_database_that_is_not_there_is_refused(redis_server, open_client):
    with pytest.raises(ReplyError, match="DB index is out of range"):
        open_client(redis_server.url_of(99)).call("", "PING")


@pytest.mark.parametrize("url", ["url", "user_url"])
def test_right_password_is_let_in(redis_password, open_client, url):
    assert open_client(getattr(redis_password, url)).call("", "PING") == b"PONG"


def test_wrong_password_is_denied_and_not_told(redis_password, open_client):
    with pytest.raises(ReplyError, match=r"^WRONGPASS") as caught:
        open_client(redis_password.wrong_url).call("", "PING")

    assert caught.value.is_denied
    assert "wr0ng" not in str(caught.value)


def test_password_that_is_asked_for_and_not_given_is_denied(redis_password, open_client):
    with pytest.raises(ReplyError, match=r"^NOAUTH") as caught:
        open_client(f"redis://127.0.0.1:{redis_password.port}").call("", "PING")

    assert caught.value.is_denied


def test_user_without_a_password_is_not_taken_for_the_default_user(redis_server, open_client):
    with pytest.raises(ReplyError, match=r"^WRONGPASS"):
        open_client(f"redis://nobody@127.0.0.1:{redis_server.port}").call("", "PING")


def test_password_that_nobody_asked_for_is_refused(redis_server, open_client):
    with pytest.raises(ReplyError, match="without any password configured"):
        open_client(f"redis://:pw@127.0.0.1:{redis_server.port}").call("", "PING")


def test_server_that_repeats_the_words_of_a_command_tells_no_password(scripted, open_client):
    def answer(words):
        return b"-ERR unknown command 'AUTH', with args beginning with: '%s'\r\n" % words[1]

    url = f"redis://:s3cret@127.0.0.1:{scripted(answer).port}"
    with pytest.raises(ReplyError, match=r"^ERR AUTH is refused$"):
        open_client(url).call("", "PING")


# -- TLS ------------------------------------------------------------------------------------------


def test_tls_trusts_whom_it_is_told_to(redis_tls, open_client):
    assert open_client(redis_tls.url).call("", "PING") == b"PONG"

    made = redis_tls.certificates
    own = {"ssl_certfile": str(made.client), "ssl_keyfile": str(made.client_key)}
    assert open_client(redis_tls.url, **own).call("", "PING") == b"PONG"


@pytest.mark.parametrize("trusted", ["stranger_ca", None])
def test_tls_trusts_nobody_else(redis_tls, open_client, trusted):
    options = {}
    if trusted is not None:
        options["ssl_ca_certs"] = str(getattr(redis_tls.certificates, trusted))
    bare = redis_tls.url.partition("?")[0]

    with pytest.raises(ConnectionLostError, match="certificate verify failed"):
        open_client(bare, **options).call("", "PING")


def test_tls_checks_the_name_unless_told_not_to(redis_tls, open_client):
    # Another way to write 127.0.0.1, which isn't in the certificate.
    url = redis_tls.url.replace("127.0.0.1", "127.1")
    with pytest.raises(ConnectionLostError, match="certificate verify failed"):
        open_client(url).call("", "PING")

    bare = url.partition("?")[0]
    for told in (f"{url}&ssl_check_hostname=no", f"{bare}?ssl_cert_reqs=none"):
        assert open_client(told).call("", "PING") == b"PONG"


def test_plain_client_of_a_tls_server_does_not_hang(redis_tls, open_client):
    url = f"redis://127.0.0.1:{redis_tls.port}"

    with pytest.raises(ConnectionLostError):
        open_client(url, socket_connect_timeout=0.3).call("", "PING")


def test_tls_client_of_a_plain_server_does_not_hang(redis_server, open_client):
    url = f"rediss://127.0.0.1:{redis_server.port}"

    with pytest.raises(ConnectionLostError, match="is there TLS at this port"):
        open_client(url, socket_connect_timeout=0.3).call("", "PING")


def test_certificates_are_read_once_and_anew_when_they_were_replaced(
    redis_tls, open_client, tmp_path
):
    ca = tmp_path / "ca.pem"
    shutil.copyfile(redis_tls.certificates.ca, ca)
    client = open_client(f"{redis_tls.url.partition('?')[0]}?ssl_ca_certs={ca}")
    tls = client.address.tls
    client.call("", "PING")
    first = _context(tls, _changed_at(tls))
    client.close()
    client.call("", "PING")
    assert _context(tls, _changed_at(tls)) is first

    shutil.copyfile(redis_tls.certificates.stranger_ca, ca)
    client.close()
    with pytest.raises(ConnectionLostError, match="certificate verify failed"):
        client.call("", "PING")


# -- nobody there ---------------------------------------------------------------------------------


def test_nobody_listening_is_lost(open_client):
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1: "):
        open_client("redis://127.0.0.1:1").call("", "PING")


def test_name_that_no_host_can_have_is_lost(open_client):
    with pytest.raises(ConnectionLostError):
        open_client(f"redis://{'x' * 70}.invalid").call("", "PING")


def test_server_that_does_not_answer_is_lost_in_time(redis_server, redis_proxy, open_client):
    client = open_client(
        redis_server.url_of(0, redis_proxy.port), socket_timeout=0.1, socket_connect_timeout=0.2
    )
    client.call("", "PING")
    with redis_proxy.broken(TcpProxy.swallow):
        for _ in range(2):  # by the connection that there is, and by a new one
            with pytest.raises(ConnectionLostError, match="no answer in time"):
                client.call("", "PING")

    assert client.call("", "PING") == b"PONG"


def test_server_that_is_still_loading_passes(scripted, open_client):
    answers = iter([b"-LOADING Redis is loading the dataset in memory\r\n", b"+PONG\r\n"])
    server = scripted(lambda words: next(answers, b":1\r\n"))
    client = open_client(f"redis://127.0.0.1:{server.port}")

    with pytest.raises(ReplyError, match=r"^LOADING") as caught:
        client.call("", "INCR", "key")
    assert caught.value.is_passing
    assert client.call("", "INCR", "key") == 1
