"""Part of `BackendSuite`: `chord_body`, what `open_chord` was given to keep with a chord."""

from __future__ import annotations

from umbel.ids import new_id
from umbel_testing.backend_chord_kit import TTL_S, chords, part, parts_of
from umbel_testing.backend_kit import BackendKit

#: Anything, not only text.
_BODY = bytes(range(256)) * 5


class BackendChordBodySuite(BackendKit):
    """Capability CHORD: the body of a chord is kept with it, until the chord is closed."""

    @chords
    def test_body_is_kept_as_it_was_for_all_handles(self) -> None:
        backend, group, other = self.open(), new_id(), new_id()
        backend.open_chord(group, 2, ttl_s=TTL_S, body=_BODY)
        backend.open_chord(other, 2, ttl_s=TTL_S, body=b"{}")
        backend.join_chord([part(group)])

        assert self.open().chord_body(group) == _BODY
        assert self.open().chord_body(other) == b"{}"

    @chords
    def test_body_of_what_has_none_is_unknown(self) -> None:
        backend, group, joined = self.open(), new_id(), new_id()
        backend.open_chord(group, 2, ttl_s=TTL_S)
        backend.join_chord([part(joined)])

        assert [backend.chord_body(each) for each in (group, joined, new_id())] == [None] * 3

    @chords
    def test_body_is_gone_when_the_chord_is_closed(self) -> None:
        backend, group, other = self.open(), new_id(), new_id()
        for each in (group, other):
            backend.open_chord(each, 1, ttl_s=TTL_S, body=_BODY)
        backend.join_chord(parts_of(group, 1))
        backend.close_chord([group])
        backend.join_chord([part(group, 5)])

        assert (backend.chord_body(group), backend.chord_body(other)) == (None, _BODY)

    @chords
    def test_opening_again_keeps_the_body(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 2, ttl_s=TTL_S, body=_BODY)
        backend.open_chord(group, 2, ttl_s=TTL_S, body=_BODY)
        backend.open_chord(group, 2, ttl_s=TTL_S)

        assert backend.chord_body(group) == _BODY

    @chords
    def test_body_may_be_told_by_opening_again(self) -> None:
        backend, group = self.open(), new_id()
        backend.open_chord(group, 2, ttl_s=TTL_S)
        backend.open_chord(group, 2, ttl_s=TTL_S, body=b"first")
        backend.open_chord(group, 2, ttl_s=TTL_S, body=b"second")

        assert backend.chord_body(group) == b"second"

    @chords
    def test_closed_chord_opened_again_has_the_body_of_that_opening(self) -> None:
        backend, groups = self.open(), [new_id(), new_id()]
        for each in groups:
            backend.open_chord(each, 1, ttl_s=TTL_S, body=b"old")
        backend.close_chord(groups)
        backend.open_chord(groups[0], 1, ttl_s=TTL_S, body=_BODY)
        backend.open_chord(groups[1], 1, ttl_s=TTL_S)

        assert [backend.chord_body(each) for each in groups] == [_BODY, None]

    @chords
    def test_body_is_no_longer_known_when_the_time_of_its_chord_is_over(self) -> None:
        backend, groups = self.open(), [new_id(), new_id()]
        for each in groups:
            backend.open_chord(each, 2, ttl_s=self.soon_s, body=_BODY)
        backend.join_chord([part(groups[1])])
        self.pass_time(self.soon_s * 1.1)

        assert [backend.chord_body(each) for each in groups] == [None, _BODY]
