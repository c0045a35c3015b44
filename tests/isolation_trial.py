"""Runs in an environment that holds core and one package: import all of it, load its plugin.

Arguments: the distribution and its import package.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import distribution


def main(name: str, import_name: str) -> None:
    """Import every module of `import_name`, and see what core makes of its plugin."""
    modules = import_all(import_name)
    brought = {entry.name for entry in distribution(name).entry_points if entry.group == "umbel"}
    if not brought:
        sys.exit(f"{name} has no entry point in the group umbel")

    from umbel.plugins import installed_plugins  # here: core may be what doesn't import

    report = {plugin.name: plugin for plugin in installed_plugins().report()}
    if report.keys() != brought | {"core"}:
        sys.exit(f"expected the plugins core and {', '.join(brought)}, found {', '.join(report)}")
    if failed := [f"{plugin.name}: {plugin.error}" for plugin in report.values() if plugin.error]:
        sys.exit("\n".join(failed))
    print(f"{modules} modules imported, plugin {', '.join(sorted(brought))} loaded")


def import_all(import_name: str) -> int:
    """Import a package with all of its modules; return how many."""
    top = importlib.import_module(import_name)
    modules = 1
    for found in pkgutil.walk_packages(top.__path__, f"{import_name}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            modules += 1
    return modules


if __name__ == "__main__":
    main(*sys.argv[1:])
