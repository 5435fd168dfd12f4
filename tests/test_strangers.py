"""Files from strangers, mutated from sound ones, through the commands that read them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from benchmarks import strangers


def test_no_file_of_a_stranger_does_harm(capsys):
    """Each kind a few times: an answer or a clear error, in time, and nothing written elsewhere."""
    assert strangers.main(["--inputs", "300", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "best.safetensors" in out
    assert "tar.gz" in out


def test_harm_is_seen(tmp_path):
    (tmp_path / "own").mkdir()
    with strangers.watched(tmp_path / "own") as done:
        (tmp_path / "own" / "file").write_text("fine")
        assert done == []
        (tmp_path / "outside").write_text("not fine")
        assert done == [f"wrote {tmp_path / 'outside'}"]
        pickle.loads(pickle.dumps(Path("x")))
    assert any("pickle.find_class" in what for what in done)


def test_a_kind_that_is_not_there_is_told_of():
    with pytest.raises(SystemExit):
        strangers.main(["--only", "no such kind"])
