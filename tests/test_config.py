"""The configuration: every key, every kind of mistake, and the way back to TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from kgtool.config import Config, load_config, parse_config
from kgtool.errors import ConfigError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))

EVERY_KEY = """
data = "some/place"
seed = 3
dim = 12

[encoder]
layers = 2
decomposition = "block"
parts = 4
edge_dropout = 0.1
feature_dropout = 0.2

[decoder]
input_dropout = 0.0
output_dropout = 0.4

[training]
epochs = 7
batch_size = 16
loss = "bce"
targets = "k-vs-all"
label_smoothing = 0.1
dura = 0.05
hide_targets = false
path_queries = 0.5
max_path_length = 4
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
    """Value by dotted key."""
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
    config, default = leaves(load(tmp_path, EVERY_KEY)), leaves(Config())
    assert [key for key in default if config[key] == default[key]] == []
    assert config["training.clip_norm"] == 1.0
    assert config["training.weight_decay"] == 1e-6


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load(tmp_path) == Config()


@pytest.mark.parametrize("text", ["", EVERY_KEY, 'data = "a \\"b\\" \\\\ é\\u2028"\nseed = 9'])
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
        ("training.loss=sofmax", "training.loss", "'sofmax'"),
        ("training.learning_rate=0", "training.learning_rate", "0"),
        ("training.learning_rate=nan", "training.learning_rate", "nan"),
        ("training.learning_rate=inf", "training.learning_rate", "inf"),
        ("training.dura=-0.1", "training.dura", "-0.1"),
        ("training.dura=nan", "training.dura", "nan"),
        ("training.hide_targets=perhaps", "training.hide_targets", "'perhaps'"),
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
        "training.hide_targets=false",
        "training.loss=bce",
        'training.targets="k-vs-all"',
        "encoder.parts=1",
        "data=some folder/with=equals",
        "training.epochs=4",  # the last word counts
    )
    assert (config.dim, config.training.epochs, config.encoder.parts) == (16, 4, 1)
    assert config.training.learning_rate == 0.01
    assert config.training.hide_targets is False
    assert (config.training.loss, config.training.targets) == ("bce", "k-vs-all")
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
    with pytest.raises(ConfigError, match=r"encoder.parts = 3 blocks do not divide dim = 8"):
        parse_config({"dim": 8, "encoder": block})
    assert parse_config({"dim": 9, "encoder": block}).encoder.parts == 3
    assert parse_config({"dim": 8, "encoder": block | {"layers": 0}}).encoder.parts == 3
    assert parse_config({"dim": 8, "encoder": {"parts": 3}}).encoder.parts == 3


def test_a_configuration_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Config().dim = 3  # type: ignore[misc]
