"""The configuration: every key, every kind of error, and writing TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from kgtool.config import AllPathsConfig, Config, EncoderConfig, load_config, parse_config
from kgtool.errors import ConfigError
from tests.support.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))

ONE_PATH = """
data = "some/place"
seed = 3
dim = 12

[encoder]
layers = 2
decomposition = "block"
parts = 4
edge_dropout = 0.1
feature_dropout = 0.2
fanout = 5
start = "relations"

[one_path]
cell = "product"
input_dropout = 0.0
output_dropout = 0.4
batch_size = 16
loss = "bce"
targets = "k-vs-all"
label_smoothing = 0.1
dura = 0.05
hide_targets = false
path_queries = 0.5
walks = 0.25
max_path_length = 4

[training]
epochs = 7
epoch_steps = 9
optimizer = "adagrad"
learning_rate = 0.1
weight_decay = 1e-6
warmup_steps = 10
decay = "cosine"
clip_norm = 1
precision = "bfloat16"
validate_every = 2
patience = 3
"""
ALL_PATHS = """
[all_paths]
steps = 6
readout = 16
max_entities = 500
batch_size = 32
targets = 4
target_share = 0.5
hide = "pair"
edge_dropout = 0.25
"""


def load(tmp_path: Path, text: str = "", *overrides: str) -> Config:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def failure(tmp_path: Path, text: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def leaves(config: BaseModel) -> dict[str, object]:
    """The values by dotted key."""
    found: dict[str, object] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            found |= {f"{name}.{key}": inner for key, inner in leaves(value).items()}
        else:
            found[name] = value
    return found


def test_there_are_configurations():
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_those_of_the_project_load(path):
    assert load_config(path).training.epochs >= 1


def test_every_key_can_be_set(tmp_path):
    config, default = leaves(load(tmp_path, ONE_PATH)), leaves(load(tmp_path, "[one_path]"))
    # Negatives exclude some of the others.
    assert [k for k in default if config[k] == default[k]] == ["one_path.negatives", "all_paths"]
    paths = leaves(load(tmp_path, ALL_PATHS).all_paths or AllPathsConfig())
    assert [k for k, value in leaves(AllPathsConfig()).items() if paths[k] == value] == []
    assert config["training.clip_norm"] == 1.0
    assert config["training.weight_decay"] == 1e-6


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load(tmp_path) == Config()


@pytest.mark.parametrize(
    "text", ["", "[one_path]", ONE_PATH, ALL_PATHS, 'data = "a \\"b\\" \\\\ é\\u2028"\nseed = 9']
)
def test_to_toml_and_back(tmp_path, text):
    config = load(tmp_path, text)
    again = load(tmp_path, config.to_toml())
    assert again == config
    assert again.to_toml() == config.to_toml()


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("dims = 3", "dims", "dim"),
        ("epochs = 3", "epochs", "training.epochs"),
        ("[training]\nepoch = 3", "training.epoch", "training.epochs"),
        ("[training]\ndim = 3", "training.dim", "dim"),
        ("[encoder]\nlayer = 1", "encoder.layer", "encoder.layers"),
        ("[trainng]\nlearning_rate = 1", "trainng", "training.epochs"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path, text, key, nearest):
    message = failure(tmp_path, text)
    assert f"unknown key {key!r}" in message
    if key != "trainng":
        assert f"the nearest is {nearest!r}" in message
    else:
        assert "the nearest is 'training." in message
    assert "run.toml" in message
    assert "\n" not in message


def test_every_mistake_is_told(tmp_path):
    lines = failure(tmp_path, "dims = 1\nseed = -1\n[training]\nepochs = 0").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(str(tmp_path / "run.toml")) for line in lines)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("dim=0", "dim", "0"),
        ("dim=many", "dim", "'many'"),
        ("dim=1.5", "dim", "1.5"),
        ("seed=-1", "seed", "-1"),
        ("training.epochs=0", "training.epochs", "0"),
        ("one_path.loss=sofmax", "one_path.loss", "'sofmax'"),
        ("training.learning_rate=0", "training.learning_rate", "0"),
        ("training.learning_rate=nan", "training.learning_rate", "nan"),
        ("training.learning_rate=inf", "training.learning_rate", "inf"),
        ("one_path.dura=-0.1", "one_path.dura", "-0.1"),
        ("one_path.dura=nan", "one_path.dura", "nan"),
        ("one_path.walks=-1", "one_path.walks", "-1"),
        ("one_path.hide_targets=perhaps", "one_path.hide_targets", "'perhaps'"),
        ("all_paths.steps=0", "all_paths.steps", "0"),
        ("all_paths.target_share=0", "all_paths.target_share", "0"),
        ("all_paths.edge_dropout=1", "all_paths.edge_dropout", "1"),
        ("all_paths.hide=node", "all_paths.hide", "'node'"),
        ("encoder.edge_dropout=1", "encoder.edge_dropout", "1"),
        ("encoder=2", "encoder", "2"),
        ("data=[1]", "data", "[1]"),
    ],
)
def test_a_wrong_value_names_key_and_value(tmp_path, override, key, value):
    message = failure(tmp_path, "", override)
    assert f": {key} = {value}: " in message
    assert "\n" not in message


def test_overrides_replace_what_the_file_says(tmp_path):
    config = load(
        tmp_path,
        "dim = 8\n[training]\nepochs = 2",
        "dim=16",
        "training.epochs=3",
        "training.learning_rate=1e-2",
        "one_path.hide_targets=false",
        "one_path.loss=bce",
        'one_path.targets="k-vs-all"',
        "encoder.parts=1",
        "data=some folder/with=equals",
        "training.epochs=4",  # the last word counts
    )
    assert config.encoder is not None
    assert (config.dim, config.training.epochs, config.encoder.parts) == (16, 4, 1)
    assert config.training.learning_rate == 0.01
    assert config.one_path is not None
    assert config.one_path.hide_targets is False
    assert (config.one_path.loss, config.one_path.targets) == ("bce", "k-vs-all")
    assert config.data == "some folder/with=equals"


@pytest.mark.parametrize("override", ["dim", "=3", ".dim=3", "training.=3", "", "training..dim=1"])
def test_an_override_that_is_no_setting(tmp_path, override):
    assert failure(tmp_path, "", override) == (
        f"{override!r} is no setting. Remedy: write key=value, as in dim=128"
    )


def test_an_override_under_a_value(tmp_path):
    assert "dim is a value, not a section" in failure(tmp_path, "dim = 3", "dim.size=3")


def test_files_that_cannot_be_read(tmp_path):
    assert "not TOML" in failure(tmp_path, "dim: 3")
    (tmp_path / "latin.toml").write_bytes(b'data = "\xe9"')
    for path, reason in (
        (tmp_path / "latin.toml", "not UTF-8"),
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            load_config(path)
        assert str(path) in str(caught.value)


def test_a_file_with_a_byte_order_mark_loads(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfdim = 4\r\n")
    assert load_config(tmp_path / "bom.toml").dim == 4


def test_blocks_must_divide_the_dims():
    block = {"decomposition": "block", "parts": 3}

    def parts(dim, **encoder):
        read = parse_config({"dim": dim, "one_path": {}, "encoder": encoder}).encoder
        assert read is not None
        return read.parts

    with pytest.raises(ConfigError, match=r"encoder.parts = 3 blocks do not divide dim = 8"):
        parts(8, **block)
    assert parts(9, **block) == parts(8, **block, layers=0) == parts(8, parts=3) == 3


def test_a_model_has_one_decoder():
    assert Config() == parse_config({"all_paths": {}}) == Config(all_paths=AllPathsConfig())
    with pytest.raises(ConfigError, match="one_path and all_paths exclude each other"):
        parse_config({"all_paths": {}, "one_path": {}})
    both = parse_config({"encoder": {"layers": 0}})
    assert (both.all_paths, both.inductive) == (AllPathsConfig(), False)
    assert parse_config({"encoder": {"start": "relations"}}).inductive
    with pytest.raises(ConfigError, match="an encoder that feeds all_paths has no dropout"):
        parse_config({"encoder": {"feature_dropout": 0.1}})
    one = parse_config({"one_path": {}})
    assert (one.all_paths, one.encoder) == (None, EncoderConfig())


def test_a_configuration_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Config().dim = 3  # type: ignore[misc]
