"""The search space of `kgtool tune`: from the configuration's types, narrowed by `[tune]`."""

from __future__ import annotations

from typing import Any

import pytest

from kgtool.config import TUNE, load_config, parse_config, preset_folder, read_settings
from kgtool.errors import ConfigError
from kgtool.training.space import (
    Choice,
    Range,
    base_settings,
    default_space,
    is_in,
    parse_space,
    values_of,
    with_settings,
)
from tests.support.runs import all_paths_config, combined_config, tiny_config

PRESETS = sorted(path.stem for path in preset_folder().glob("*.toml"))


def test_each_form_of_values(tmp_path):
    file = tmp_path / "both.toml"
    file.write_text(
        "dim = 8\n[all_paths]\n[one_path]\n[tune]\ndim = [8, 16]\n"
        "training.learning_rate = { log = [0.001, 0.1] }\n"
        '"one_path.input_dropout" = { range = [0, 0.5] }\n'
        "training.one_path.epochs = { range = [2, 9] }\n"
        '[tune.all_paths]\nlayers = "default"\nremove_target_edges = "default"\n'
    )
    settings, where = read_settings(file)
    assert where == str(file)
    assert parse_space(settings[TUNE], load_config(file)) == {
        "dim": Choice((8, 16)),
        "training.learning_rate": Range(0.001, 0.1, log=True, whole=False),
        "one_path.input_dropout": Range(0.0, 0.5, log=False, whole=False),
        "training.one_path.epochs": Range(2, 9, log=False, whole=True),
        "all_paths.layers": Range(3, 5, log=False, whole=True),
        "all_paths.remove_target_edges": Choice(("edge", "pair")),
    }


def test_train_reads_a_file_with_tune_and_refuses_it_as_an_override():
    assert load_config({"dim": 8, "tune": {"dim": [8, 16]}}) == load_config({"dim": 8})
    settings, _ = read_settings({"dim": 8}, ["tune.dim=[8, 16]"])
    assert settings["tune"] == {"dim": [8, 16]}
    with pytest.raises(ConfigError, match="a setting of kgtool tune"):
        load_config({"dim": 8}, ["tune.dim=[8, 16]"])


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({}, r"\[tune\] has no settings"),
        ({"training.learning_rat": [1, 2]}, "nearest is 'training.learning_rate'"),
        ({"training": {"epoch": [1, 2]}}, "unknown key 'training.epoch'"),
        ({"learning_rate": {"log": [0.1, 1]}}, "nearest is 'training.learning_rate'"),
        ({"training.learning_rate": {"lgo": [0.1, 1]}}, "not values to choose from"),
        ({"training.learning_rate": 0.1}, "not values to choose from"),
        ({"dim": [16]}, "fewer than two values"),
        ({"dim": [16, 0]}, "0: Input should be greater than or equal to 1"),
        ({"dim": [16, 32.5]}, "32.5: Input should be a valid integer"),
        ({"dim": [[16], [32]]}, "is not a number or text"),
        ({"dim": {"range": [32, 16]}}, "the low end comes first"),
        ({"dim": {"range": [32]}}, "a range has two ends"),
        ({"one_path.input_dropout": {"range": [0, 1]}}, "less than 1"),
        ({"one_path.input_dropout": {"log": [0, 0.5]}}, "begins above 0"),
        ({"one_path.cell": ["gru", "lstm"]}, "'lstm': Input should be 'gru'"),
        ({"one_path.cell": {"range": [1, 2]}}, "not a number"),
        ({"one_path.n3": "default"}, "gives no default values"),
        ({"training.patience": "default"}, "unset gives no default values"),
        ({"seed": [1, 2]}, "seed is not a setting to tune"),
        ({"all_paths.layers": [1, 2]}, r"does not use the section \[all_paths\]"),
        ({"training.one_path.epochs": [1, 2]}, r"does not use the section \[training.one_path\]"),
        ({"one_path.dim": [8, 16]}, "Remedy: tune dim"),
    ],
)
def test_values_that_do_not_fit(tune: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_space(tune, tiny_config(), "my.toml")
    assert str(caught.value).startswith("my.toml: [tune]")


def test_all_faults_are_in_one_error():
    with pytest.raises(ConfigError) as caught:
        parse_space({"dim": [1], "seed": [1, 2]}, tiny_config())
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("preset", [*PRESETS, "default"])
def test_the_default_space_fits_each_preset(preset):
    settings = {} if preset == "default" else read_settings(preset_folder() / f"{preset}.toml")[0]
    config = parse_config(settings)
    space = default_space(config)
    assert parse_space(None, config) == space
    assert len(space) >= 4
    assert values_of(config, space).keys() == space.keys()  # the first trial is the preset
    base = base_settings(settings, config)
    for name, domain in space.items():
        ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in ends:
            changed = parse_config(with_settings(base, {name: value}))
            assert dict(changed.settings())[name] == value
            assert list(changed.parts) == list(config.parts)


def test_the_default_space_has_settings_of_both_parts():
    space = default_space(combined_config())
    assert {"training.one_path.learning_rate", "one_path.dim", "training.learning_rate"} <= {*space}
    assert {"all_paths.layers", "encoder.layers"} <= {*space}
    assert not any(name.startswith("one_path") for name in default_space(all_paths_config()))
    weighted = tiny_config(cell="complex", n3=0.01, relation_prediction=0.1)
    assert {"one_path.n3", "one_path.relation_prediction"} <= {*default_space(weighted)}
    # An odd number of dimensions does not fit complex numbers.
    assert default_space(tiny_config(cell="complex", dim=6))["dim"] == Choice((6, 12))


def test_a_value_changes_no_other_setting():
    settings = {"training": {"epochs": 5}}
    config = parse_config(settings)
    assert config.combined
    base = base_settings({**settings, "tune": {}}, config)
    new = parse_config(with_settings(base, {"one_path.dim": 16, "training.epochs": 7}))
    assert set(new.differences(config)) == {
        "training.epochs is 7 there and 5 here",
        "one_path.dim is 16 there and 128 here",
    }
    assert settings == {"training": {"epochs": 5}}


def test_a_domain_has_its_ends():
    assert is_in(0.5, Range(0.1, 0.5, True, False))
    assert not is_in(0.6, Range(0.1, 0.5, True, False))
    assert not is_in(None, Range(0.1, 0.5, True, False))
    assert is_in(8, Choice((8, 16)))
    assert not is_in(9, Choice((8, 16)))
