"""The command line within this process, for all that needs no process of its own."""

import sys

import pytest

from descend.cli.app import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """A function that runs a command in a folder of its own: exit status, standard output and standard error."""

    def call(*arguments, width=80):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["descend", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call
