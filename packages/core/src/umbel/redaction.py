"""Masks passwords in URLs, in nested options and in any text that holds URLs.

Where a URL can be read in two ways, more is masked rather than less: a password may hold any
character that isn't white space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

#: Stands in a secret's place.
MASK = "********"

# Patterns are text here: every client loads this module, few ever mask anything.

#: Names of options and query parameters whose values are secrets.
_HIDDEN_NAME = (
    r"(?i)password|passwd|passphrase|passcode|pass(?![a-z])|pwd|secret|token|key|credential"
    r"|signature|(?<![a-z])sig(?![a-z])"
)
#: Names that hold one of these words and yet no secret.
_PUBLIC_NAME = (
    r"(?i)(routing|binding|partition|sort|group|primary)_?keys?$"
    r"|key_?(file|prefix|space)(?!.*pass)|tokenizer|public_?key"
)
_SCHEME = r"[a-zA-Z][a-zA-Z0-9+.\-]*://"
#: Several URLs in one setting (failover) are separated by semicolons.
_NEXT_URL = f";(?={_SCHEME})"


def is_secret_name(name: str) -> bool:
    """Tell whether an option of this name holds a secret: password, token, key and the like."""
    return bool(re.search(_HIDDEN_NAME, name)) and not re.search(_PUBLIC_NAME, name)


def mask_url(url: str) -> str:
    """Return `url` with its password and secret query parameters masked.

    Several URLs may be separated by semicolons. What isn't a URL comes back as it is.
    """
    return ";".join(_mask_one(part) for part in re.split(_NEXT_URL, url))


def mask_text(text: str) -> str:
    """Return `text` with the passwords of all URLs in it masked.

    A URL ends at white space; after a quotation mark, at the same mark if that comes later.
    """
    if "://" not in text:
        return text
    out: list[str] = []
    at = 0
    for found in re.finditer(_SCHEME, text):
        if found.start() < at:  # inside of the URL before, as a part of its query
            continue
        end = _end_of_url(text, found.start())
        out += (text[at : found.start()], mask_url(text[found.start() : end]))
        at = end
    out.append(text[at:])
    return "".join(out)


def mask_value(value: Any, *, name: str = "") -> Any:
    """Return a copy of `value` fit to be shown: URLs masked, and all that has a secret's name.

    Args:
        value: Text, numbers, and mappings and sequences of them; other objects come back as
            they are.
        name: Under which name `value` stands; a secret's name masks all of it.
    """
    if name and is_secret_name(name) and value is not None and not isinstance(value, bool):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes):
        return mask_text(value.decode("utf-8", "replace")).encode()
    if isinstance(value, Mapping):
        return {key: mask_value(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet)):
        items = [mask_value(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _end_of_url(text: str, start: int) -> int:
    """Return where the URL that begins at `start` ends."""
    end = start + len(text[start:].split(maxsplit=1)[0])
    quote = text[start - 1 : start]
    if quote and quote in "'\"":
        # A password may hold a blank: the quotation marks show where the URL ends.
        end = max(end, text.find(quote, start))
    return end


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    user, at, place = "", "", rest
    if not rest.startswith("/"):
        # The last @: a password that isn't percent-encoded may hold all of @ / ? # itself.
        user, at, place = rest.rpartition("@")
    name, colon, password = user.partition(":")
    if password:
        user = f"{name}{colon}{MASK}"
    # All of it: what stands before an @ may have been a query after all.
    return f"{scheme}{separator}{_mask_query(f'{user}{at}{place}')}"


def _mask_query(place: str) -> str:
    head, mark, query = place.partition("?")
    if not mark:
        return place
    parts = query.split("&")
    for index, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if value and is_secret_name(name):
            parts[index] = f"{name}{equals}{MASK}"
    return f"{head}{mark}{'&'.join(parts)}"
