"""Settings for a graph never seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import kgtool
from kgtool.config import load_config
from kgtool.data.traits import Traits
from kgtool.errors import ConfigError, DataError
from kgtool.training import automatic
from kgtool.training.automatic import choose_settings
from tests.support.graphs import tensor_of
from tests.support.runs import in_memory, ring

# Of FB15k-237, WN18RR, UMLS.
FB = Traits(14_505, 237, 272_115, 149_689, 37.5, 0, 0.7, 0.38, 0.0)
WN = Traits(40_559, 11, 86_835, 103_509, 4.3, 1, 0.1, 0.34, 0.35)
UMLS = Traits(135, 46, 5_216, 1_560, 77.3, 1, 0.9, 0.61, 0.62)
HUGE = replace(FB, entities=5_000_000, triples=20_000_000, degree=8.0, queries=20_000_000)


@pytest.fixture
def chosen(monkeypatch):
    """What is chosen for traits, with costs that are given in seconds: step, validation."""

    def choose(traits, *, minutes=20.0, step=0.1, validation=1.0, overrides=()):
        def cost(clock, config):
            part = config.one_path or config.all_paths
            edges = traits.triples if config.one_path else 2 * traits.entities
            steps = max(1, edges // part.batch_size)
            return automatic._Cost(step * config.dim / 32, steps, validation)

        monkeypatch.setattr(Traits, "of", lambda dataset: traits)
        monkeypatch.setattr(automatic._Clock, "_cost", cost)
        return choose_settings(ring(), minutes=minutes, overrides=overrides)

    return choose


def test_the_counts_of_a_graph_decide(chosen):
    fb, wn, umls = (chosen(traits).config for traits in (FB, WN, UMLS))
    assert [c.all_paths.layers for c in (fb, wn, umls)] == [4, 6, 3]
    assert [c.all_paths.max_targets for c in (fb, wn, umls)] == [16, 4, 32]
    assert [c.all_paths.remove_target_edges for c in (fb, wn, umls)] == ["pair", "edge", "edge"]
    assert [c.all_paths.max_target_ratio for c in (fb, wn, umls)] == [1 / 3, 0.5, 1 / 3]
    assert [c.all_paths.edge_dropout for c in (fb, wn, umls)] == [0.0, 0.0, 0.5]
    assert fb.one_path.relation_prediction == 0.5 > umls.one_path.relation_prediction
    assert all(c.combined and c.one_path.cell == "complex" for c in (fb, wn, umls))


def test_more_time_gives_a_larger_model_and_more_steps(chosen):
    found = [chosen(FB, minutes=minutes).config for minutes in (5, 20, 100, 5000)]
    dims = [(c.one_path.dim, c.dim) for c in found]
    assert dims == sorted(dims)
    assert dims[0] < dims[-1] == (1024, 64)
    assert found[-1].training.epochs == 5
    assert found[-1].training.steps_per_epoch is None


@pytest.mark.parametrize("minutes", [0.5, 5, 20, 60])
@pytest.mark.parametrize("traits", [FB, WN, UMLS], ids=["fb", "wn", "umls"])
def test_the_time_is_kept(chosen, traits, minutes):
    found = chosen(traits, minutes=minutes, step=0.02, validation=0.5)
    assert found.minutes <= minutes
    config = found.config
    seconds = 0.0
    for name, part in config.parts.items():
        own = part.training
        edges = traits.triples if name == "one_path" else 2 * traits.entities
        steps = max(1, edges // getattr(part, name).batch_size)
        each = min(steps, own.steps_per_epoch or steps) * 0.02 * part.dim / 32
        validations = -(-own.epochs // own.validate_every)
        seconds += own.epochs * each + 0.5 * validations
    assert seconds / 60 <= minutes
    assert seconds / 60 == pytest.approx(found.minutes, rel=0.2)


def test_slow_passes_are_on_a_budget(chosen):
    assert chosen(FB, step=2.0).config.all_paths.node_budget == 300
    assert chosen(UMLS, step=20.0).config.all_paths.node_budget == 0
    config = chosen(HUGE).config
    assert config.all_paths.node_budget == 300
    assert config.one_path.training == "negative_sampling"


def test_given_settings_stay(chosen):
    found = chosen(FB, overrides=["dim=16", "training.epochs=3", "one_path.dim=64"])
    assert (found.config.dim, found.config.one_path.dim, found.config.training.epochs) == (
        16,
        64,
        3,
    )
    why = dict(found.to_frame()[["setting", "why"]].to_numpy())
    assert why["dim"] == why["one_path.dim"] == why["training.epochs"] == "given"
    with pytest.raises(ConfigError, match="unknown key 'dmi'"):
        chosen(FB, overrides=["dmi=16"])


def test_the_file_is_the_configuration(chosen, tmp_path):
    found = chosen(WN, overrides=['data="my graph"'])
    file = tmp_path / "my.toml"
    file.write_text(found.to_toml())
    assert load_config(file) == found.config
    assert found.config.data == "my graph"
    lines = found.to_toml().splitlines()
    above = {line.partition(" = ")[0]: before for before, line in pairwise(lines)}
    assert above["remove_target_edges"] == (
        "# another triple joins 34% of the pairs of train, 35% of valid's"
    )
    frame = found.to_frame()
    assert list(frame.columns) == ["setting", "value", "why"]
    assert frame["why"].all()
    assert set(frame["setting"]) <= found.chosen.keys()


def test_settings_are_measured_and_trained(tmp_path):
    data = ring()
    state = torch.get_rng_state()
    found = kgtool.choose_settings(data, minutes=0.05)
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(found).startswith("ChosenSettings(")
    assert "24 entities" in found._repr_html_()
    run = kgtool.train(found.config, data, tmp_path / "run", progress=False)
    assert run.config == found.config
    assert kgtool.evaluate(run).mrr > 0.3


def test_bad_input():
    with pytest.raises(ConfigError, match="minutes is 0, not above 0"):
        choose_settings(ring(), minutes=0)
    with pytest.raises(ConfigError, match="minutes is nan"):
        choose_settings(ring(), minutes=float("nan"))
    empty = in_memory([(0, 0, 1)], [], [(1, 0, 0)], 2)
    with pytest.raises(DataError, match="valid holds no triples"):
        choose_settings(empty)


def test_a_graph_of_one_triple(tmp_path):
    dataset = in_memory([(0, 0, 1)], [(1, 0, 0)], [], 2)
    found = choose_settings(dataset, minutes=0.02)
    run = kgtool.train(found.config, dataset, tmp_path / "run", progress=False)
    assert len(run.best_validation()) > 0
    assert tensor_of([(0, 0, 1)]).equal(dataset.train)
