from umbel.worker.shutdown import COLD_GRACE_S, Phase, Shutdown


def test_phases_follow_each_other_as_their_times_run_out() -> None:
    shutdown = Shutdown(warm_s=10.0, soft_s=2.0)
    seen = []

    shutdown.request(Phase.WARM, now=100.0)
    for now in (105.0, 110.0, 111.0, 112.0, 112.0 + COLD_GRACE_S):
        shutdown.advance(now)
        seen.append(shutdown.phase)

    assert seen == [Phase.WARM, Phase.SOFT, Phase.SOFT, Phase.COLD, Phase.KILL]


def test_a_warm_shutdown_without_a_limit_waits_for_ever() -> None:
    shutdown = Shutdown(warm_s=None, soft_s=2.0)
    shutdown.request(Phase.WARM, now=0.0)

    assert shutdown.remaining_s(1e9) is None
    assert not shutdown.advance(1e9)


def test_a_second_request_for_the_same_phase_changes_nothing() -> None:
    shutdown = Shutdown(warm_s=10.0, soft_s=2.0)
    shutdown.request(Phase.WARM, now=0.0)

    assert not shutdown.request(Phase.WARM, now=9.0)
    assert shutdown.remaining_s(9.0) == 1.0


def test_escalation_stops_at_cold() -> None:
    shutdown = Shutdown(warm_s=10.0, soft_s=2.0)
    phases = []
    for _ in range(5):
        shutdown.escalate(now=0.0)
        phases.append(shutdown.phase)

    assert phases == [Phase.WARM, Phase.SOFT, Phase.COLD, Phase.COLD, Phase.COLD]


def test_a_soft_phase_of_no_length_is_left_out() -> None:
    shutdown = Shutdown(warm_s=1.0, soft_s=0.0)
    shutdown.request(Phase.WARM, now=0.0)

    shutdown.advance(1.0)

    assert shutdown.phase is Phase.COLD
