"""What goes through a workflow before it is sent, and stamps all that it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.canvas.primitives import chain, chord, group
    from umbel.signatures import Signature

Stamps = Mapping[str, Any]


class StampingVisitor(ABC):
    """Says what stamps the parts of a workflow get: ``workflow.stamp(MyVisitor())``.

    Methods get what is stamped, and the stamps that it has from what it is a part of. They return
    more stamps, or None. With a key ``stamped_headers`` only what that lists are stamps, and what
    else there is are options, such as ``priority``.
    """

    @abstractmethod
    def on_signature(self, sig: Signature[Any], **headers: Any) -> Stamps | None:
        """Return the stamps of one call."""

    def on_group_start(self, group: group, **headers: Any) -> Stamps | None:
        """Return stamps for all members of a group."""
        return None

    def on_group_end(self, group: group, **headers: Any) -> None:
        """Hear that the members of a group are stamped."""

    def on_chain_start(self, chain: chain, **headers: Any) -> Stamps | None:
        """Return stamps for all steps of a chain."""
        return None

    def on_chain_end(self, chain: chain, **headers: Any) -> None:
        """Hear that the steps of a chain are stamped."""

    def on_chord_header_start(self, sig: chord, **header: Any) -> Stamps | None:
        """Return stamps for all of a chord; unless it is overridden those of its header's group."""
        return self.on_group_start(sig.header, **header)

    def on_chord_header_end(self, sig: chord, **header: Any) -> None:
        """Hear that the header of a chord is stamped."""
        self.on_group_end(sig.header, **header)

    def on_chord_body(self, sig: chord, **header: Any) -> Stamps | None:
        """Return stamps for the body of a chord."""
        return None

    def on_callback(self, callback: Signature[Any], **header: Any) -> Stamps | None:
        """Return stamps for what is called with a result (``link``)."""
        return None

    def on_errback(self, errback: Signature[Any], **header: Any) -> Stamps | None:
        """Return stamps for what is called upon a failure (``link_error``)."""
        return None
