"""What is known of a dead letter besides its reason, as the embedded brokers keep it: JSON."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from umbel.errors import BrokerError
from umbel.messages import Burial

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def write_details(burial: Burial) -> bytes:
    """Return the details of `burial` as JSON. Raises: BrokerError: they aren't."""
    try:
        return _encode(burial.details)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BrokerError(
            f"the details of dead letter {burial.delivery.receipt!r} can't be stored as JSON: "
            f"{error}"
        ) from error


def read_details(raw: Any) -> dict[str, Any]:
    """Return what `write_details` wrote; nothing where that is damaged."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return {}
