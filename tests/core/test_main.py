from __future__ import annotations

import importlib.util
import subprocess
import sys

from umbel.__main__ import main


def test_without_the_command_line_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("umbel.__main__.find_spec", lambda name: None)

    assert main() == 2
    assert capsys.readouterr().err == (
        'umbel: the command line isn\'t installed; get it with: pip install "umbel[cli]"\n'
    )


def test_python_m_umbel_is_the_command_line():
    assert importlib.util.find_spec("umbel_cli") is not None
    done = subprocess.run(
        [sys.executable, "-m", "umbel", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("umbel ")
