"""A node whose lease ran out, and who tells whom."""

from __future__ import annotations

from project import wait_for


def test_a_process_that_goes_on_does_not_hide_that_its_node_was_taken_over(
    redis_server, open_broker
):
    supervisor, child, other = [open_broker(redis_server.url) for _ in range(3)]
    supervisor.join("n", "n/supervisor", lease_s=60.0)
    child.join("n", "n/1", lease_s=60.0)
    supervisor.renew("n", lease_s=0.001)
    wait_for(lambda: redis_server.run("ZCOUNT", "umbel:nodes", "-inf", now_ms(redis_server)) == 1)
    other.recover_expired()
    child._ensure_at = 0.0
    child.receive(["q"], max_messages=1, wait_s=0)

    assert redis_server.run("ZSCORE", "umbel:nodes", "n") is not None
    assert not supervisor.renew("n", lease_s=60.0)
    assert supervisor.renew("n", lease_s=60.0)


def now_ms(server):
    seconds, micros = server.run("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
