"""What the global options of one run say, and the app that they lead to.

Light: `umbel --help` loads this module, and no other part of umbel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.settings import Settings
    from umbel_cli.app_loading import LoadedApp


@dataclass
class CliState:
    """The one object that the options of a run write to, and its command reads."""

    app_path: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    config: str | None = None
    json: bool = False
    quiet: bool = False
    #: Show tracebacks.
    debug: bool = False
    #: The process is the command line, and not a program that calls it.
    is_program: bool = False
    _loaded: LoadedApp | None = field(default=None, repr=False)
    _nameless: Umbel | None = field(default=None, repr=False)

    def loaded_app(self) -> LoadedApp:
        """Return the app that ``-A`` names, with its path.

        Raises:
            click.UsageError: there is no ``-A``.
            AppLoadError: it can't be loaded.
        """
        if self.app_path is None:
            raise click.UsageError(
                "this command needs an app: name it with -A MODULE[:ATTR] or UMBEL_APP"
            )
        if self._loaded is None:
            from umbel_cli.app_loading import load_app  # noqa: PLC0415 - imports umbel

            self._loaded = load_app(self.app_path)
            self._configure(self._loaded.app)
        return self._loaded

    def app(self) -> Umbel:
        """Return the app that ``-A`` names; without ``-A`` one that has settings but no tasks."""
        if self.app_path is not None:
            return self.loaded_app().app
        if self._nameless is None:
            from umbel import Umbel  # noqa: PLC0415 - --help needs none of it
            from umbel_cli.app_loading import working_directory_first  # noqa: PLC0415

            working_directory_first()
            self._nameless = Umbel("umbel")
            self._configure(self._nameless)
        return self._nameless

    def overrides(self) -> dict[str, str]:
        """Return the settings that options give."""
        given = {"broker_url": self.broker, "result_backend": self.result_backend}
        return {name: url for name, url in given.items() if url is not None}

    def override_options(self) -> list[str]:
        """Return the same as options, for a command that this one starts."""
        given = {"--broker": self.broker, "--result-backend": self.result_backend}
        return [part for option, url in given.items() if url for part in (option, url)]

    def source_of(self, conf: Settings, name: str) -> str:
        """Return where a setting's value is from, options of this run among the places."""
        return "command line" if name in self.overrides() else conf.source_of(name)

    def note(self, text: str) -> None:
        """Tell a person something beside the results; silent under ``--quiet``."""
        if not self.quiet:
            click.echo(text, err=True)

    def _configure(self, app: Umbel) -> None:
        click.get_current_context().find_root().call_on_close(app.close)
        if self.config is not None:
            app.config_from_object(self.config)
        app.conf.update(self.overrides())


#: Decorator: hand the `CliState` to a command as its first argument.
pass_state = click.make_pass_decorator(CliState, ensure=True)
