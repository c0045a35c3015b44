"""No password is ever shown, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.redaction import MASK, is_secret_name, mask_text, mask_url, mask_value

#: Anything that isn't white space; the prefix lets a test look for it in what is shown.
PASSWORDS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12
).map(lambda tail: f"hunter2{tail}")


@pytest.mark.parametrize(
    "url,masked",
    [
        ("redis://:pw@host:6379/0", f"redis://:{MASK}@host:6379/0"),
        ("amqp://user:pw@host//", f"amqp://user:{MASK}@host//"),
        ("mongodb+srv://u:p@h1,h2/db?w=1", f"mongodb+srv://u:{MASK}@h1,h2/db?w=1"),
        ("redis://u:p@ss/w?o#rd@host/0", f"redis://u:{MASK}@host/0"),
        ("redis://host/0?password=pw&db=1", f"redis://host/0?password={MASK}&db=1"),
        ("sqs://?aws_secret_access_key=a=b", f"sqs://?aws_secret_access_key={MASK}"),
        ("x://h?sig=pw", f"x://h?sig={MASK}"),
    ],
)
def test_password_of_a_url_is_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:////home/me@corp/umbel:1.db?synchronous=full",
        "memory://",
        "redis://host:6379/0?socket_timeout=5",
        "amqp://guest@host//",
        "redis://user:@host",
        "disabled",
        "",
    ],
)
def test_url_without_a_password_stays_as_it_is(url: str) -> None:
    assert mask_url(url) == url


def test_each_of_several_urls_is_masked() -> None:
    assert mask_url("redis://:a@h1/0;redis://:b@h2/0") == (
        f"redis://:{MASK}@h1/0;redis://:{MASK}@h2/0"
    )


def test_semicolon_in_a_password_splits_nothing() -> None:
    assert mask_url("redis://:hun;ter@host") == f"redis://:{MASK}@host"


def test_urls_are_masked_within_text() -> None:
    text = "can't reach redis://u:pw@h:1/0 (tried 'amqp://a:b c@h2//'), nor mail a:b@c.org"

    assert mask_text(text) == (
        f"can't reach redis://u:{MASK}@h:1/0 (tried 'amqp://a:{MASK}@h2//'), nor mail a:b@c.org"
    )


def test_text_without_urls_stays_as_it_is() -> None:
    assert mask_text("time is 10:30 @ noon, password=x") == "time is 10:30 @ noon, password=x"


@given(PASSWORDS)
def test_no_password_is_shown_in_a_url(password: str) -> None:
    assert "hunter2" not in mask_url(f"redis://user:{password}@host:6379/0?db=1")


@given(PASSWORDS, st.text(max_size=20), st.text(max_size=20))
def test_no_password_is_shown_in_text(password: str, before: str, after: str) -> None:
    masked = mask_text(f"{before} redis://user:{password}@host/0 {after}")

    assert "hunter2" not in masked


@given(PASSWORDS.filter(lambda text: "&" not in text))
def test_no_password_is_shown_in_a_query(password: str) -> None:
    assert "hunter2" not in mask_url(f"redis://host/0?db=1&password={password}")


@given(st.text())
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = mask_text(text)

    assert mask_text(once) == once


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "db_pass", "passwords", "api_key", "apiKey", "SecretToken"),
        *("sas_sig", "ssl_keyfile_password"),
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["routing_key", "task_default_routing_key", "ssl_keyfile", "passthrough", "assignment"]
)
def test_names_that_only_look_secret_are_public(name: str) -> None:
    assert not is_secret_name(name)


def test_secrets_within_nested_options_are_masked() -> None:
    options = {
        "password": "pw",
        "credentials": {"user": "me", "pw": "x"},
        "hosts": ["redis://:pw@h", ("a", 1)],
        "url": b"redis://:pw@h",
        "deep": [{"token": 5, "ttl": 5}],
        "use_key": True,
        "secret": None,
    }

    assert mask_value(options) == {
        "password": MASK,
        "credentials": MASK,
        "hosts": [f"redis://:{MASK}@h", ("a", 1)],
        "url": f"redis://:{MASK}@h".encode(),
        "deep": [{"token": MASK, "ttl": 5}],
        "use_key": True,
        "secret": None,
    }
