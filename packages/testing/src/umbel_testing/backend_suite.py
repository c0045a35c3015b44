"""The contract of a result backend (umbel.interfaces.backend) as tests.

    class TestMyBackend(BackendSuite):
        @pytest.fixture
        def make_backend(self, tmp_path):
            return lambda: MyBackend.from_url(f"my://{tmp_path}", options={}, clock=SYSTEM_CLOCK)

Each call returns a new handle on the same store, which may outlive a test.
"""

from __future__ import annotations

from umbel.interfaces.backend import Backend, BackendCapability
from umbel_testing.backend_chord_body_suite import BackendChordBodySuite
from umbel_testing.backend_chord_suite import BackendChordSuite
from umbel_testing.backend_groups_suite import BackendGroupsSuite
from umbel_testing.backend_progress_suite import BackendProgressSuite
from umbel_testing.backend_storing_suite import BackendStoringSuite
from umbel_testing.backend_waiting_suite import BackendWaitingSuite


class BackendSuite(
    BackendStoringSuite,
    BackendWaitingSuite,
    BackendGroupsSuite,
    BackendChordSuite,
    BackendChordBodySuite,
    BackendProgressSuite,
):
    """All that is promised of every result backend."""

    def test_backend_declares_its_capabilities(self) -> None:
        backend = self.open()

        assert isinstance(backend, Backend)
        assert backend.capabilities <= frozenset(BackendCapability)
