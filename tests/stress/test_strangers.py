"""Untrusted files, made by mutation of valid files, given to the commands that read them."""

from __future__ import annotations

import pickle
from pathlib import Path
from random import Random

import pytest
import torch

from kgtool.errors import RunError
from kgtool.storage.checkpoint import load_tensors, save_tensors
from tests.stress import mutations, strangers


@pytest.mark.slow
def test_no_file_of_a_stranger_does_harm(capsys):
    """Each kind a few times: an answer or a clear error, in time, without writing elsewhere."""
    assert strangers.main(["--inputs", "300", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "best.safetensors" in out
    assert "owners" in out
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


def test_a_checkpoint_of_a_stranger_has_its_checksum(tmp_path):
    """It is read, or refused for another reason; equal random numbers give equal bytes."""
    path = tmp_path / "x.safetensors"
    state = {"epoch": 1, "history": [{"epoch": 1, "valid_mrr": 0.5}]}
    tensors = {f"model.{i}": torch.arange(12.0).reshape(i, -1) for i in range(1, 5)}
    save_tensors(path, tensors, state)
    whole = path.read_bytes()
    refused = []
    for number in range(300):
        content = mutations.any_checkpoint(whole, Random(number))
        assert content == mutations.any_checkpoint(whole, Random(number))
        path.write_bytes(content)
        try:
            load_tensors(path)
        except RunError as error:
            refused.append(str(error))
    assert 5 < len(refused) < 100
    assert not any("its bytes do not match" in message for message in refused)


def test_a_kind_that_is_not_there_is_told_of():
    with pytest.raises(SystemExit):
        strangers.main(["--only", "no such kind"])
