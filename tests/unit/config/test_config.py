"""The configuration: every key, every kind of error, and writing TOML."""

from __future__ import annotations

import inspect
import pickle
from copy import deepcopy
from pathlib import Path

import pytest
from pydantic import BaseModel

from kgtool.config import (
    AllPathsConfig,
    Config,
    EncoderConfig,
    OnePathConfig,
    PretrainConfig,
    TrainingConfig,
    load_config,
    parse_config,
    preset_folder,
)
from kgtool.errors import ConfigError
from tests.support.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))

ONE_PATH = """
data = "some/place"
init_from = "runs/other"
seed = 3
dim = 12

[encoder]
layers = 2
num_blocks = 4
edge_dropout = 0.1
feature_dropout = 0.2
fanout = 5
entity_init = "relations"
features = ["a.npy", "b.tsv"]

[one_path]
cell = "distmult"
input_dropout = 0.0
output_dropout = 0.4
batch_size = 16
training = "KvsAll"
loss = "bce"
label_smoothing = 0.1
dura = 0.05
n3 = 0.01
relation_prediction = 0.5
remove_target_edges = "none"
path_query_ratio = 0.5
walk_ratio = 0.25
max_path_length = 4

[training]
epochs = 7
steps_per_epoch = 9
optimizer = "adagrad"
learning_rate = 0.1
weight_decay = 1e-6
warmup_steps = 10
lr_schedule = "cosine"
max_grad_norm = 1
average_weights = 0.1
precision = "bfloat16"
validate_every = 2
patience = 3
"""
ALL_PATHS = """
[all_paths]
layers = 6
mlp_dim = 16
node_budget = 500
batch_size = 32
max_targets = 4
max_target_ratio = 0.5
remove_target_edges = "pair"
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
    # Negatives and distances exclude some of the others.
    same = [k for k in default if config[k] == default[k]]
    excluded = ["norm", "num_negatives", "adversarial_temperature", "margin"]
    of_both = ["one_path.dim", "all_paths", "training.one_path", "encoder.kind", "pretrain"]
    assert sorted(same) == sorted([*(f"one_path.{key}" for key in excluded), *of_both])
    paths = leaves(load(tmp_path, ALL_PATHS).all_paths or AllPathsConfig())
    assert [k for k, value in leaves(AllPathsConfig()).items() if paths[k] == value] == []
    assert config["training.max_grad_norm"] == 1.0
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
        ("one_path.walk_ratio=-1", "one_path.walk_ratio", "-1"),
        ("one_path.remove_target_edges=pair", "one_path.remove_target_edges", "'pair'"),
        ("all_paths.layers=0", "all_paths.layers", "0"),
        ("all_paths.max_target_ratio=0", "all_paths.max_target_ratio", "0"),
        ("all_paths.edge_dropout=1", "all_paths.edge_dropout", "1"),
        ("all_paths.remove_target_edges=node", "all_paths.remove_target_edges", "'node'"),
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
        "one_path.remove_target_edges=none",
        "one_path.loss=bce",
        'one_path.training="KvsAll"',
        "encoder.num_bases=1",
        "data=some folder/with=equals",
        "training.epochs=4",  # the last word counts
    )
    assert config.encoder is not None
    assert (config.dim, config.training.epochs, config.encoder.num_bases) == (16, 4, 1)
    assert config.training.learning_rate == 0.01
    assert config.one_path is not None
    assert config.one_path.remove_target_edges == "none"
    assert (config.one_path.loss, config.one_path.training) == ("bce", "KvsAll")
    assert config.data == "some folder/with=equals"


@pytest.mark.parametrize("override", ["dim", "=3", ".dim=3", "training.=3", "", "training..dim=1"])
def test_an_override_that_is_not_a_setting(tmp_path, override):
    assert failure(tmp_path, "", override) == (
        f"{override!r} is not a setting. Remedy: write key=value, as in dim=128"
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
    def encoder(dim, **settings):
        read = parse_config({"dim": dim, "one_path": {}, "encoder": settings}).encoder
        assert read is not None
        return read

    with pytest.raises(ConfigError, match=r"encoder.num_blocks = 3 does not divide dim = 8"):
        encoder(8, num_blocks=3)
    assert encoder(9, num_blocks=3).num_blocks == 3
    assert encoder(8, num_blocks=3, layers=0).num_blocks == 3
    assert encoder(8, num_bases=3).num_bases == 3


def test_an_encoder_has_one_decomposition():
    of = [EncoderConfig(), EncoderConfig(num_bases=5), EncoderConfig(num_blocks=4)]
    assert [e.decomposition for e in of] == ["basis", "basis", "block"]
    assert [(e.num_bases, e.num_blocks) for e in of] == [(2, None), (5, None), (None, 4)]
    with pytest.raises(ConfigError, match=r"num_bases and encoder.num_blocks exclude each other"):
        parse_config({"encoder": {"num_bases": 2, "num_blocks": 2}})


def test_negatives_and_negative_sampling_need_each_other():
    with pytest.raises(ConfigError, match=r"needs one_path.num_negatives above 0"):
        parse_config({"one_path": {"training": "negative_sampling"}})
    with pytest.raises(ConfigError, match=r"needs one_path.training = .*, not 'KvsAll'"):
        parse_config({"one_path": {"training": "KvsAll", "num_negatives": 3}})


def test_a_model_has_the_parts_that_are_stated_or_both():
    assert list(parse_config({"all_paths": {}}).parts) == ["all_paths"]
    one = parse_config({"one_path": {}})
    assert one.parts == {"one_path": one}
    assert (one.all_paths, one.encoder, one.combined) == (None, EncoderConfig(), False)
    for both in (
        parse_config({}),
        parse_config({"encoder": {"layers": 0}}),
        parse_config({"one_path": {}, "all_paths": {}}),
    ):
        assert list(both.parts) == ["one_path", "all_paths"]
        assert both.combined
        assert both.inductive
        assert (both.parts["one_path"].encoder, both.parts["all_paths"].encoder) == (
            both.encoder,
            None,
        )
    assert both.training.one_path is None  # the settings of both parts are one
    assert Config(training=TrainingConfig(epochs=3)) == parse_config({"training": {"epochs": 3}})


def test_an_encoder_feeds_a_model_of_paths_alone():
    fed = parse_config({"all_paths": {}, "encoder": {"layers": 0}})
    assert (fed.all_paths, fed.inductive) == (AllPathsConfig(), False)
    relations = {"entity_init": "relations"}
    assert parse_config({"all_paths": {}, "encoder": relations}).inductive
    with pytest.raises(ConfigError, match="an encoder that feeds all_paths has no dropout"):
        parse_config({"all_paths": {}, "encoder": {"feature_dropout": 0.1}})
    both = parse_config({"all_paths": {}, "one_path": {}, "encoder": {"feature_dropout": 0.1}})
    assert both.parts["one_path"].encoder == both.encoder


def test_the_parts_have_their_own_dimension_and_training():
    settings = {
        "dim": 8,
        "seed": 5,
        "all_paths": {"layers": 2},
        "one_path": {"dim": 16, "batch_size": 9},
        "training": {"epochs": 3, "warmup_steps": 4, "one_path": {"epochs": 7}},
    }
    config = parse_config(settings)
    one, paths = config.parts.values()
    assert (one.dim, paths.dim) == (16, 8)
    assert (one.seed, paths.seed) == (5, 5)
    assert (one.training.epochs, paths.training.epochs) == (7, 3)
    assert (one.training.warmup_steps, paths.training.warmup_steps) == (4, 4)
    assert one == parse_config(
        {"dim": 16, "seed": 5, "one_path": {"batch_size": 9},
         "training": {"epochs": 7, "warmup_steps": 4}}
    )  # fmt: skip
    assert paths == parse_config(
        {"dim": 8, "seed": 5, "all_paths": {"layers": 2},
         "training": {"epochs": 3, "warmup_steps": 4}}
    )  # fmt: skip
    assert (
        load_config(settings, ["training.one_path.epochs=9"]).parts["one_path"].training.epochs == 9
    )
    assert "training.one_path.epochs is 7 there and 9 here" in config.differences(
        load_config(settings, ["training.one_path.epochs=9"])
    )


def test_settings_of_a_part_are_checked_as_those_of_a_model():
    with pytest.raises(ConfigError, match=r"num_blocks = 3 does not divide dim = 16"):
        parse_config(
            {"dim": 9, "all_paths": {}, "one_path": {"dim": 16}, "encoder": {"num_blocks": 3}}
        )
    with pytest.raises(ConfigError, match=r"negative sampling needs .*optimizer = 'adagrad'"):
        parse_config(
            {"all_paths": {}, "one_path": {"training": "negative_sampling", "num_negatives": 4}}
        )
    for settings in (
        {"one_path": {"dim": 4}},
        {"one_path": {}, "training": {"one_path": {"epochs": 3}}},
        {"all_paths": {}, "training": {"one_path": {"epochs": 3}}},
    ):
        with pytest.raises(ConfigError, match=r"Remedy: set dim and \[training\]"):
            parse_config(settings)
    with pytest.raises(ConfigError, match=r"nearest is 'training\.one_path\.epochs'"):
        parse_config({"training": {"one_path": {"epoch": 3}}})


SECTIONS: list[type[BaseModel]] = [
    Config,
    EncoderConfig,
    OnePathConfig,
    AllPathsConfig,
    TrainingConfig,
]


@pytest.mark.parametrize("section", [*SECTIONS, PretrainConfig])
def test_every_setting_has_a_description(section):
    for name, field in section.model_fields.items():
        if (
            section is Config
            and name in ("encoder", "one_path", "all_paths", "training", "pretrain")
        ) or (section is TrainingConfig and name == "one_path"):
            continue
        description = field.description or ""
        assert 10 <= len(description) <= 160, f"{name}: {len(description)}"
        assert description.endswith("."), name
        assert "\n" not in description, name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_commented_presets_parse_back(tmp_path, path):
    config = load_config(path)
    text = config.to_toml(comments=True)
    assert load(tmp_path, text) == config
    for name, value in leaves(config).items():
        key = name.split(".")[-1]
        if value is not None:
            assert f"\n{key} = " in f"\n{text}", key


@pytest.mark.parametrize("text", [ONE_PATH, ALL_PATHS, 'data = "a \\"b\\" # \\n é"'])
def test_commented_settings_parse_back(tmp_path, text):
    config = load(tmp_path, text)
    assert load(tmp_path, config.to_toml(comments=True)) == config


def test_comments_describe_each_setting_and_mark_defaults(tmp_path):
    text = "dim = 64\n[all_paths]\n[training]\npatience = 3"
    lines = load(tmp_path, text).to_toml(True).splitlines()
    dim = lines.index("dim = 64  # default: 32")
    assert lines[dim - 1] == f"# {Config.model_fields['dim'].description}"
    assert "seed = 0  # default" in lines
    assert "patience = 3  # default: unset" in lines
    assert "# max_grad_norm: unset" in lines
    assert "[one_path]" not in lines


def test_commented_defaults_hold_every_setting(tmp_path):
    text = Config().to_toml(comments=True)
    assert load(tmp_path, text) == Config()
    lines = text.splitlines()
    for section in SECTIONS:
        for field in section.model_fields.values():
            assert field.description is None or f"# {field.description}" in lines


def test_presets_load_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert preset_folder() == ROOT / "configs"
    assert load_config("wn18rr") == load_config(ROOT / "configs" / "wn18rr.toml")
    assert load_config("wn18rr", ["dim=8"]).dim == 8
    with pytest.raises(ConfigError, match=r"cannot read .* wn18: .*The presets are codex-s, codex"):
        load_config("wn18")
    (tmp_path / "wn18rr").write_text("dim = 5")  # a file of this name is the file
    assert load_config("wn18rr").dim == 5


def test_a_configuration_does_not_change():
    with pytest.raises(ConfigError, match=r"dim cannot be set.* Remedy: make a new one, as in kgt"):
        Config().dim = 3  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"epochs cannot be set"):
        Config().training.epochs = 3  # type: ignore[misc]
    assert load_config(Config().model_dump(), ["training.epochs=5"]).training.epochs == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(dmi=3), "unknown key 'dmi'; the nearest is 'dim'"),  # type: ignore[call-arg]
        (lambda: Config.model_validate({"dmi": 3}), "unknown key 'dmi'; the nearest is 'dim'"),
        (lambda: Config().model_copy(update={"dmi": 3}), "unknown key 'dmi'; the nearest is 'dim'"),
        (lambda: Config(dim="x"), "dim = 'x': Input should be a valid integer"),  # type: ignore[arg-type]
        (
            lambda: Config(training={"epoch": 3}),  # type: ignore[arg-type]
            "unknown key 'training.epoch'; the nearest is 'training.epochs'",
        ),
        (lambda: Config(encoder={"parts": 3}), "encoder.parts = 3 is now encoder.num_bases = 3"),  # type: ignore[arg-type]
        (lambda: parse_config({3: 4}), "the configuration: unknown key '3'"),  # type: ignore[dict-item]
    ],
)
def test_a_configuration_in_python_has_the_errors_of_a_file(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_a_copy_of_a_configuration_is_checked_and_equal():
    config = Config(one_path={"cell": "gru"})  # type: ignore[arg-type]
    assert config.model_copy() == config
    assert config.model_copy(update={"dim": 8}).model_copy(update={"dim": config.dim}) == config
    assert pickle.loads(pickle.dumps(config)) == config == deepcopy(config)
    assert list(inspect.signature(Config).parameters)[:3] == ["data", "init_from", "seed"]
