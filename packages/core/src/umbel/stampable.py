"""The side of a signature that stamps see to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from umbel.signature_forms import LINKS, listed
from umbel.stamps import check_visitor, combined, named, stamped

if TYPE_CHECKING:
    from umbel.canvas.stamping import StampingVisitor
    from umbel.signatures import Signature


class Stampable:
    """What signatures are stamped with. Not for use by itself."""

    __slots__ = ()

    if TYPE_CHECKING:
        options: dict[str, Any]

        @classmethod
        def from_dict(cls, raw: Any) -> Signature[Any]:
            """Read the JSON form."""

        def _changed(self, **fields: Any) -> Self: ...

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Return a copy that is stamped, with all that it is made of and that follows from it.

        Args:
            visitor: Is asked for stamps at each part.
            append_stamps: Where there is a stamp of that name make a list of both; else the new
                one wins, and a visitor's wins over `headers`.
            **headers: Stamps; with ``stamped_headers`` only what that lists.
        Raises:
            WrongTypeError: `visitor` is none, or what it returns are no stamps.
            InvalidTaskError: a stamp has the name of what ties calls together.
        """
        check_visitor(visitor)
        given = named(headers)
        copy = self.stamp_links(visitor, append_stamps, **given)
        found = (
            visitor.on_signature(cast("Signature[Any]", self), **given)
            if visitor is not None
            else None
        )
        both = combined(given, named(found), append=append_stamps)
        return copy._changed(options=stamped(copy.options, both, append=append_stamps))

    def stamp_links(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Return a copy whose callbacks and errbacks are stamped; else as `stamp`."""
        check_visitor(visitor)
        given, changed = named(headers), {}
        for option in LINKS:
            links = []
            for each in listed(self.options.get(option)):
                link, found = self.from_dict(each), None
                if visitor is not None and option == "link":
                    found = visitor.on_callback(link, **given)
                elif visitor is not None:
                    found = visitor.on_errback(link, **given)
                both = combined(given, named(found), append=append_stamps)
                links.append(link.stamp(visitor, append_stamps, **both))
            if links:
                changed[option] = links
        return self._changed(options={**self.options, **changed}) if changed else self
