"""Install the servers that tests start, where that is allowed and they are missing.

``python tests/support/provision.py``: on Debian and Ubuntu, as root or with a ``sudo`` that asks
for nothing. Says nothing where all is there. Elsewhere it names what is missing: the tests that
need it are skipped, and CI, which allows no skips, fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

#: Program to the package of Debian that has it.
PROGRAMS = {"redis-server": "redis-server", "openssl": "openssl"}

#: Installs the packages that are its arguments. Tests start servers of their own: none is to be
#: started by its package. A policy for that is left alone where there is one already.
INSTALL = r"""
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get -qq -o DPkg::Lock::Timeout=120 update
apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" < /dev/null
"""


def main() -> int:
    """Install what is missing; never fails the run of tests that follows."""
    absent = missing()
    if not absent:
        return 0
    become_root = way_to_root()
    if shutil.which("apt-get") is None or become_root is None:
        print(f"missing: {', '.join(absent)}; tests that need it are skipped", flush=True)
        return 0
    packages = sorted({PROGRAMS[name] for name in absent})
    print(f"installing {', '.join(packages)} …", flush=True)
    setting = ["env", "DEBIAN_FRONTEND=noninteractive"]
    done = subprocess.run(
        [*become_root, *setting, "sh", "-c", INSTALL, "sh", *packages],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or missing():
        print(f"{done.stdout}\nstill missing: {', '.join(missing())}", flush=True)
    return 0


def missing() -> list[str]:
    """Return the programs that aren't on the PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def way_to_root() -> list[str] | None:
    """Return what to put before a command that root is to run; None: there is no way."""
    if not hasattr(os, "geteuid"):
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asks_nothing = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
    return [sudo, "-n"] if asks_nothing.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
