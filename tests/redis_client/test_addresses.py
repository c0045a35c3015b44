"""URLs and options are read as users of Celery and redis-py write them; what is wrong is named."""

from __future__ import annotations

import ssl
import traceback

import pytest

from umbel.errors import ConfigError
from umbel_redis_client import Endpoint, parse_url
from umbel_redis_client.addresses import Tls


def read(url, /, **options):
    return parse_url(url, options, ignored=frozenset({"mine"}))


@pytest.fixture
def pem(tmp_path):
    path = tmp_path / "ca.pem"
    path.touch()
    return str(path)


@pytest.mark.parametrize(
    "url, endpoint, db",
    [
        ("redis://", Endpoint("localhost", 6379), 0),
        ("redis://h", Endpoint("h", 6379), 0),
        ("redis://h:1/", Endpoint("h", 1), 0),
        ("REDIS://h:1/2", Endpoint("h", 1), 2),
        ("redis://h?db=3", Endpoint("h", 6379), 3),
        ("redis://h/?virtual_host=/3", Endpoint("h", 6379), 3),
        ("redis://h/1?db=3", Endpoint("h", 6379), 1),
        ("redis://[::1]:5/1", Endpoint("::1", 5), 1),
        ("redis+socket:///run/r.sock", Endpoint("localhost", 0, "/run/r.sock"), 0),
        ("redis+socket:///a%20b?virtual_host=2", Endpoint("localhost", 0, "/a b"), 2),
        ("redis+socket:///r.sock?db=2", Endpoint("localhost", 0, "/r.sock"), 2),
    ],
)
def test_url_says_where(url, endpoint, db):
    address = read(url)

    assert (address.endpoints, address.db) == ((endpoint,), db)
    assert (address.tls, address.master, address.is_cluster) == (None, None, False)


@pytest.mark.parametrize(
    "url, login",
    [
        ("redis://h", (None, None)),
        ("redis://:pw@h", (None, "pw")),
        ("redis://user:pw@h", ("user", "pw")),
        ("redis://user@h", ("user", None)),
        ("redis://us%40er:p%2Fw%3A%40@h", ("us@er", "p/w:@")),
        ("redis+socket://:pw@/run/r.sock", (None, "pw")),
        ("redis://h?username=user&password=pw", ("user", "pw")),
    ],
)
def test_url_says_who(url, login):
    address = read(url)

    assert (address.username, address.password) == login


def test_options_say_what_the_url_does_not():
    options = {
        "username": "user",
        "password": "pw",
        "db": 4,
        "global_keyprefix": "app:",
        "socket_timeout": 1.5,
        "socket_connect_timeout": "2",
    }
    address = read("redis://h", **options)
    assert (address.username, address.password, address.db) == ("user", "pw", 4)
    assert (address.prefix, address.timeout_s, address.connect_timeout_s) == ("app:", 1.5, 2.0)

    other = read("redis://:other@h/5?socket_timeout=9&global_keyprefix=", **options)
    assert (other.password, other.db, other.timeout_s, other.prefix) == ("other", 5, 9.0, "")


def test_options_of_celery_that_mean_nothing_here_are_passed_over():
    read("redis://h?visibility_timeout=1&retry_on_timeout=yes", health_check_interval=1, mine=1)


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://a:1,b,c:3/2?master=m",
        "sentinel://a:1;b;c:3/2?master=m",
        "sentinel://a:1;sentinel://b;sentinel://c:3/2?master_name=m",
        "sentinel://:pw@a:1;sentinel://:pw@b;sentinel://:pw@c:3/2?master=m",
    ],
)
def test_sentinels_are_several(url):
    address = read(url, sentinel_kwargs={"password": "guarded"})

    assert address.endpoints == (Endpoint("a", 1), Endpoint("b", 26379), Endpoint("c", 3))
    assert (address.master, address.db, address.is_cluster) == ("m", 2, False)
    assert address.password == ("pw" if "pw" in url else None)
    assert (address.sentinel_username, address.sentinel_password) == (None, "guarded")


def test_cluster_has_some_nodes():
    address = read("redis+cluster://:pw@a:1,b:2")

    assert address.endpoints == (Endpoint("a", 1), Endpoint("b", 2))
    assert (address.is_cluster, address.password) == (True, "pw")


def test_tls_comes_by_scheme_or_option(pem):
    assert read("redis://h").tls is None
    assert read("rediss://h").tls == read("redis://h?ssl=true").tls == Tls()
    assert read("rediss+cluster://h").tls == read("sentinel://h?master=m", ssl=True).tls == Tls()
    assert read("redis://h", ssl={"ssl_ca_certs": pem}).tls == Tls(ca_certs=pem)


@pytest.mark.parametrize(
    "value, word",
    [
        ("none", "none"),
        ("CERT_NONE", "none"),
        (ssl.CERT_NONE, "none"),
        (ssl.CERT_OPTIONAL, "optional"),
        ("CERT_REQUIRED", "required"),
        (2, "required"),
    ],
)
def test_certificates_are_asked_for_in_the_words_of_celery_and_redis_py(value, word):
    assert read("rediss://h", ssl_cert_reqs=value).tls == Tls(cert_reqs=word)


@pytest.mark.parametrize(
    "url, options, said",
    [
        ("redis://h?db=x", {}, "db='x'"),
        ("redis://h/x", {}, "database"),
        ("redis://h/²", {}, "database"),
        ("redis://h:x", {}, "host and port"),
        ("redis://h:70000", {}, "host and port"),
        ("redis://[::1", {}, "can't be read"),
        ("redis+socket://", {}, "redis\\+socket:///path"),
        ("redis+socket://run/r.sock", {}, "redis\\+socket:///path"),
        ("sentinel://h", {}, "\\?master=name"),
        ("sentinel://h?sentinel_kwargs={}", {}, "sentinel_kwargs must be a mapping"),
        ("redis+cluster://h/1", {}, "database 1; a Redis Cluster has only 0"),
        ("redis://h?pasword=x", {}, "'pasword'; did you mean 'password'"),
        ("redis://h", {"socket_timout": 1}, "'socket_timout'; did you mean 'socket_timeout'"),
        ("redis://h", {"quite_something": 1}, "'quite_something'$"),
        ("redis://h", {"socket_timeout": 0}, "socket_timeout=0 must be seconds"),
        ("redis://h", {"socket_timeout": "nan"}, "socket_timeout='nan' must be seconds"),
        ("redis://h", {"socket_timeout": []}, "socket_timeout=\\[\\] must be seconds"),
        ("redis://h", {"ssl": "maybe"}, "ssl='maybe' must be true or false"),
        ("redis://h", {"ssl": {"ssl_ca_cert": "x"}}, "did you mean 'ssl_ca_certs'"),
        ("redis://h?ssl_cert_reqs=none", {}, "ssl_cert_reqs; write 'rediss://'"),
        ("rediss://h", {"ssl_cert_reqs": "never"}, "'required', 'optional' or 'none'"),
        ("rediss://h", {"ssl_cert_reqs": []}, "'required', 'optional' or 'none'"),
        ("rediss://h", {"ssl_ca_certs": "/no/such.pem"}, "'/no/such.pem' names no file"),
    ],
)
def test_what_is_wrong_is_named(url, options, said):
    with pytest.raises(ConfigError, match=said):
        read(url, **options)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr/et@h/0",
        "redis://:123/s3cr@h/0",
        "redis://:s3cr#et@h/0",
        "redis://:s3cr?et@h/0",
        "redis://:s3cr[et@h/0",
        "redis://:s3cr@h:x/0",
        "redis://:s3cr@h/x",
        "redis+socket://:s3cr@",
        "sentinel://:s3cr@h",
        "sentinel://h?master=m&sentinel_kwargs=%7B%22password%22:%22s3cr%22%7D",
        "redis+cluster://:s3cr@h/1",
        "redis://:s3cr@h?passwort=s3cr",
        "redis://:s3cr@h?ssl_cert_reqs=none",
    ],
)
def test_no_error_tells_a_password_not_even_in_its_traceback(url):
    with pytest.raises(ConfigError) as caught:
        read(url)

    told = "".join(traceback.format_exception(caught.value))
    assert "s3cr" not in told


def test_address_says_for_messages_what_the_user_wrote_without_the_password():
    assert read("redis://user:s3cr@h:1/2").shown == "redis://user:********@h:1/2"
