"""Old settings: an error that gives the new ones."""

from __future__ import annotations

import pytest

from kgtool.config import load_config, parse_config
from kgtool.config.renamed import RENAMED
from kgtool.errors import ConfigError

# Old settings of one section, in TOML, and what they are now.
OLD = [
    ('encoder.decomposition="basis"', "encoder.num_bases=2"),
    ('encoder.decomposition="block"', "encoder.num_blocks=2"),
    ('encoder.decomposition="block" encoder.parts=8', "encoder.num_blocks=8"),
    ("encoder.parts=5", "encoder.num_bases=5"),
    ('encoder.start="relations"', 'encoder.entity_init="relations"'),
    ('one_path.cell="product"', 'one_path.cell="distmult"'),
    ('one_path.targets="k-vs-all"', 'one_path.training="KvsAll"'),
    ('one_path.targets="1-vs-all"', 'one_path.training="1vsAll"'),
    ("one_path.negatives=0", 'one_path.training="1vsAll"'),
    ('one_path.targets="k-vs-all" one_path.negatives=0', 'one_path.training="KvsAll"'),
    (
        'one_path.targets="1-vs-all" one_path.negatives=8',
        'one_path.training="negative_sampling" one_path.num_negatives=8',
    ),
    ("one_path.hide_targets=true", 'one_path.remove_target_edges="edge"'),
    ("one_path.hide_targets=false", 'one_path.remove_target_edges="none"'),
    ("one_path.path_queries=0.5", "one_path.path_query_ratio=0.5"),
    ("one_path.walks=0.25", "one_path.walk_ratio=0.25"),
    ("all_paths.steps=6", "all_paths.layers=6"),
    ("all_paths.readout=16", "all_paths.mlp_dim=16"),
    ("all_paths.max_entities=300", "all_paths.node_budget=300"),
    ("all_paths.targets=4", "all_paths.max_targets=4"),
    ("all_paths.target_share=0.5", "all_paths.max_target_ratio=0.5"),
    ('all_paths.hide="pair"', 'all_paths.remove_target_edges="pair"'),
    ("training.epoch_steps=9", "training.steps_per_epoch=9"),
    ('training.decay="none"', 'training.lr_schedule="constant"'),
    ('training.decay="cosine"', 'training.lr_schedule="cosine"'),
    ("training.clip_norm=0.5", "training.max_grad_norm=0.5"),
]


def test_the_old_settings_are_all_of_the_table():
    keys = {setting.split("=")[0] for old, _ in OLD for setting in old.split()}
    assert keys == set(RENAMED)


@pytest.mark.parametrize(("old", "new"), OLD)
def test_an_old_setting_names_the_new_one(tmp_path, old, new):
    now = " and ".join(s.replace("=", " = ").replace('"', "'") for s in new.split())
    path = tmp_path / "old.toml"
    path.write_text("\n".join(old.split()))
    lines = []
    for overrides, file in (((), path), (old.split(), tmp_path / "empty.toml")):
        file.touch()
        with pytest.raises(ConfigError) as caught:
            load_config(file, overrides)
        assert caught.value.exit_code == 2
        lines.append(str(caught.value).splitlines())
        assert len(lines[-1]) == len(old.split())
        for line in lines[-1]:
            key = line.removeprefix(f"{file}: ").split(" = ")[0]
            assert key in RENAMED
            assert line.endswith(f" is now {now}"), line
    # The new settings load, up to what negative sampling also needs.
    more = ["training.optimizer=adagrad"] if "negative" in new else []
    assert load_config({}, [*new.split(), *more])


def failure(**settings: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(settings)
    return str(caught.value)


def test_an_old_value_of_another_type_is_named_too():
    message = failure(one_path={"hide_targets": [1], "cell": [2]})
    assert "one_path.hide_targets = [1] is now one_path.remove_target_edges = [1]" in message
    assert "one_path.cell" not in message


def test_a_run_made_before_names_all_its_old_settings():
    encoder = {
        "layers": 1, "decomposition": "basis", "parts": 2, "edge_dropout": 0.0,
        "start": "embedding",
    }  # fmt: skip
    one_path = {"cell": "gru", "negatives": 0, "targets": "1-vs-all", "hide_targets": True}
    lines = failure(encoder=encoder, one_path=one_path, training={"decay": "linear"}).splitlines()
    assert len(lines) == 7
    assert all(" is now " in line for line in lines)
