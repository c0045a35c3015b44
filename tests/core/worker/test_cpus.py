"""How many processors there are to use, going by control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from umbel.worker import cpus
from umbel.worker.cpus import cpu_count


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "_OWN", tmp_path / "own")
    return tmp_path


def write(groups: Path, own: str, **files: str) -> None:
    (groups / "own").write_text(own)
    for name, text in files.items():
        path = groups / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def second_version(groups: Path, limit: str, group: str = "") -> None:
    write(groups, f"0::/{group}\n", **{f"{group}/cpu.max".lstrip("/"): limit})


@pytest.mark.parametrize(
    "limit,count",
    [
        ("max 100000", 16),
        ("400000 100000", 4),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("9900000 100000", 16),
        ("nonsense", 16),
        ("100000 0", 16),
    ],
)
def test_quota_of_the_second_version(groups: Path, limit: str, count: int) -> None:
    second_version(groups, limit)

    assert cpu_count() == count


def test_quota_of_a_service_is_in_its_own_group(groups: Path) -> None:
    second_version(groups, "150000 100000", "system.slice/worker.service")

    assert cpu_count() == 2


def test_the_tightest_of_the_groups_above_counts(groups: Path) -> None:
    second_version(groups, "800000 100000", "pods/one")
    second_version(groups, "300000 100000", "pods")
    (groups / "own").write_text("0::/pods/one\n")

    assert cpu_count() == 3


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("group", ["", "docker/4711"])
@pytest.mark.parametrize("quota,count", [("-1", 16), ("250000", 3), ("60000", 1)])
def test_quota_of_the_first_version(
    groups: Path, folder: str, group: str, quota: str, count: int
) -> None:
    # Within a container the group is the root, while its name is that of outside.
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000\n"}
    write(groups, f"5:memory:/elsewhere\n4:cpu,cpuacct:/{group}\n", **files)

    assert cpu_count() == count


def test_without_control_groups_all_processors_count(groups: Path) -> None:
    assert cpu_count() == 16
    write(groups, "0::/gone\n")
    assert cpu_count() == 16


def test_affinity_counts(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    second_version(groups, "400000 100000")

    assert cpu_count() == 2
