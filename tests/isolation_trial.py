"""Runs in an environment that holds core and one package: import all of it, load its plugin.

What core and the package require is there too; a package without a plugin is only imported.

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
    from umbel.plugins import installed_plugins  # here: core may be what doesn't import

    report = {plugin.name: plugin for plugin in installed_plugins().report()}
    if report.keys() != brought | {"core"}:
        sys.exit(f"expected the plugins core and {', '.join(brought)}, found {', '.join(report)}")
    if failed := [f"{plugin.name}: {plugin.error}" for plugin in report.values() if plugin.error]:
        sys.exit("\n".join(failed))
    loaded = f"plugin {', '.join(sorted(brought))} loaded" if brought else "no plugin to load"
    print(f"{modules} modules imported, {loaded}")


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
