"""Each kind of model from files to answers, in seconds: what scripts/test-versions runs."""

from __future__ import annotations

import pytest

import kgtool
from kgtool.graph.partition import metis
from tests.support.runs import (
    all_paths_config,
    combined_config,
    random_config,
    ring,
    tiny_config,
    write_folder,
)

CONFIGS = {
    "one path": tiny_config(),
    "one path, all that is random": random_config(),
    "one path, sampled": tiny_config(encoder={"fanout": 3}, num_negatives=20, optimizer="adagrad"),
    "one path, bfloat16": tiny_config(precision="bfloat16"),
    "all paths": all_paths_config(),
    "both parts": combined_config(),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_from_files_to_answers(tmp_path, name):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))

    run = kgtool.train(CONFIGS[name], data, tmp_path / "run", progress=False)

    metrics = kgtool.evaluate(run)
    assert 0 < metrics.mrr <= 1
    answers = kgtool.predict(run, [("e000", "r000", "?")], top=3, include_known=True)
    assert len(answers) == 3
    if name == "all paths":  # it has no embeddings
        return
    files = kgtool.export(run, tmp_path / "export")
    assert files
    assert all(file.stat().st_size for file in files)


# DGL reads this file to print its use of memory, and leaves the closing to Python.
@pytest.mark.filterwarnings("ignore:unclosed file .*/proc/self/status:ResourceWarning")
def test_metis_finds_parts():
    parts = metis(ring().train, ring().num_entities, 2)
    assert sorted(set(parts.tolist())) == [0, 1]
