"""Runs the command line in this process."""

from __future__ import annotations

import sys

import pytest

from kgtool.cli import main


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """The exit code, the output and the errors of `kgtool ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["kgtool", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()
