"""Initial states from entity features: by definition, from train's statistics, on any graph."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.config import Config, parse_config
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.data.features import Features
from kgtool.data.loaders.features import features_of
from kgtool.errors import ConfigError, DataError, Interrupted, KGToolWarning, RunError
from kgtool.models.factory import build_model
from kgtool.models.features import FeatureProjection
from kgtool.runs.run import BEST, FEATURES, Run
from kgtool.storage.checkpoint import load_tensors
from kgtool.training.trainer import train
from tests.support.runs import all_paths_config, in_memory, ring, tiny_config, write_folder
from tests.unit.training.test_trainer import assert_same, before_step, interrupt

NAN = math.nan


def featured(data: KGDataset | None = None, seed: int = 5) -> KGDataset:
    """The data with two sources, whose vectors some entities lack, and another label."""
    data = data or ring()
    draw = np.random.default_rng(seed)
    labels = [*data.vocabulary.entities, "other"]
    first = {label: draw.normal(size=3) * 9 + 4 for label in labels[2:]}
    second = {label: [draw.integers(5), 7.0] for label in labels[:-4]}
    return replace(data, features=features_of([first, second]))


def features_in(data: KGDataset) -> Features:
    assert data.features is not None
    return data.features


KINDS: dict[str, Callable[..., Config]] = {
    "added": lambda **s: tiny_config(encoder={"features": "data"}, **s),
    "alone": lambda **s: tiny_config(encoder={"entity_init": "features"}, **s),
    "no layers": lambda **s: tiny_config(encoder={"entity_init": "features", "layers": 0}, **s),
    "to relations": lambda **s: tiny_config(
        encoder={"entity_init": "relations", "features": "data"}, **s
    ),
    "walks": lambda **s: tiny_config(
        encoder={"entity_init": "features"}, walk_ratio=0.5, path_query_ratio=0.5, **s
    ),
    "product": lambda **s: tiny_config(encoder={"entity_init": "features"}, cell="distmult", **s),
    "all paths": lambda **s: all_paths_config(encoder={"entity_init": "features"}, **s),
    "all paths, added": lambda **s: all_paths_config(encoder={"features": "data"}, **s),
    "sampled": lambda **s: tiny_config(
        encoder={"entity_init": "features"}, num_negatives=6, optimizer="adagrad", **s
    ),
    "sampled, added": lambda **s: tiny_config(
        encoder={"features": "data"}, num_negatives=6, optimizer="adagrad", **s
    ),
}
INDUCTIVE = [kind for kind in KINDS if "added" not in kind]


def slow_states(
    table: list[list[float]], widths: tuple[int, ...], train_ids: set[int], of: FeatureProjection
) -> list[list[float]]:
    """By the definition in `kgtool.models.features`, a number at a time."""
    weight, bias, missing = of.weight.tolist(), of.bias.tolist(), of.missing.tolist()
    columns = list(zip(*table, strict=True))
    mean, deviation = [], []
    for column in columns:
        known = [column[i] for i in sorted(train_ids) if not math.isnan(column[i])]
        mean.append(sum(known) / len(known))
        deviation.append(math.sqrt(sum((x - mean[-1]) ** 2 for x in known) / len(known)))
    states = []
    for row in table:
        state, begin = list(bias), 0
        for source, width in enumerate(widths):
            own = range(begin, begin + width)
            begin += width
            for i in range(len(state)):
                if math.isnan(row[own[0]]):
                    state[i] += missing[source][i]
                    continue
                for c in own:
                    if deviation[c]:
                        state[i] += weight[i][c] * (row[c] - mean[c]) / deviation[c]
        states.append(state)
    return states


def test_states_follow_the_definition_with_gradients():
    data = in_memory([(0, 0, 1), (2, 0, 4)], [(3, 0, 1)], [], 6)
    data = featured(data)
    features = features_in(data)
    torch.manual_seed(0)
    projection = FeatureProjection(data.entity_features, features.widths, 4).double()
    projection.fit(torch.tensor([0, 1, 2, 4]))  # 3 is in valid only, 5 nowhere
    expected = slow_states(data.entity_features.tolist(), features.widths, {0, 1, 2, 4}, projection)
    states = projection()
    torch.testing.assert_close(states, torch.tensor(expected, dtype=torch.float64))
    some = torch.tensor([4, 0, 5])
    torch.testing.assert_close(projection(some), states[some])
    assert torch.autograd.gradcheck(
        lambda *_: projection(), list(projection.parameters()), atol=1e-4
    )


def test_blocks_give_the_same_states(monkeypatch):
    data = featured()
    projection = FeatureProjection(data.entity_features, features_in(data).widths, 4)
    whole = projection()
    monkeypatch.setattr("kgtool.models.features.ENTITIES", 5)
    with torch.no_grad():
        torch.testing.assert_close(projection(), whole)
    mean, scale = projection.mean.clone(), projection.scale.clone()
    monkeypatch.setattr("kgtool.models.features.BLOCK", 3)
    projection.fit(torch.arange(24))
    assert not torch.equal(projection.mean, mean)
    mean, scale = projection.mean.clone(), projection.scale.clone()
    monkeypatch.undo()
    projection.fit(torch.arange(24))
    torch.testing.assert_close((projection.mean, projection.scale), (mean, scale))


def test_statistics_are_those_of_train_alone():
    values = {f"e{i:03}": [float(i), 3.0] for i in range(6)}
    data = in_memory([(0, 0, 1), (2, 0, 1)], [(3, 0, 4)], [(5, 0, 0)], 6)
    data = replace(data, features=features_of(values))
    config = tiny_config(encoder={"entity_init": "features"})
    projection = build_model(config, data).encoder.features  # type: ignore[union-attr]
    assert projection is not None
    assert projection.mean.tolist() == [1.0, 3.0]
    torch.testing.assert_close(projection.scale, torch.tensor([1.5**0.5, 0.0]))
    # The other numbers may be anything; a number that train holds constant counts nowhere.
    before = projection()
    projection.table[3:] = torch.tensor([[1e6, -5.0]])
    projection.fit(torch.tensor([0, 1, 2]))
    assert projection.mean.tolist() == [1.0, 3.0]
    assert torch.equal(projection()[:3], before[:3])
    projection.table[3:, 0] = 1.0
    assert torch.equal(projection()[3], projection()[1])


def test_large_numbers_lose_nothing_to_the_mean():
    times = np.array([[1.7e9 + 128 * i] for i in range(8)], np.float32)
    data = in_memory([(i, 0, i + 1) for i in range(7)], [(0, 0, 2)], [], 8)
    data = replace(data, features=features_of(times, data.vocabulary.entities))
    projection = FeatureProjection(data.entity_features, (1,), 1)
    projection.fit(torch.arange(8))
    with torch.no_grad():
        projection.weight.fill_(1)
        steps = projection().flatten().diff()
    torch.testing.assert_close(steps, torch.full((7,), 1 / 5.25**0.5), atol=1e-3, rtol=0)


def relabelled(data: KGDataset, order: Tensor) -> KGDataset:
    """The same facts, where entity `order[i]` has the id i."""
    new = torch.argsort(order)
    parts = [data.split(split).clone() for split in ("train", "valid", "test")]
    for part in parts:
        part[:, ::2] = new[part[:, ::2]]
    labels = tuple(data.vocabulary.entities[i] for i in order.tolist())
    words = Vocabulary(labels, data.vocabulary.relations)
    return KGDataset(data.name, None, words, *parts, features=data.features)


@pytest.mark.parametrize("kind", INDUCTIVE)
def test_the_ids_of_entities_do_not_matter(kind):
    data = featured()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    models = []
    for each in (data, relabelled(data, order)):
        torch.manual_seed(1)
        models.append(build_model(KINDS[kind](), each))
    models[1].load_state_dict(models[0].state_dict())
    hr = torch.tensor([[0, 0], [5, 2], [7, 4]])
    turned = torch.stack([torch.argsort(order)[hr[:, 0]], hr[:, 1]], 1)
    scores, others = (m.scorer().score_t(q) for m, q in zip(models, (hr, turned), strict=True))
    torch.testing.assert_close(others, scores[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["walks", "all paths", "sampled, added"])
def test_a_run_stands_alone_and_resumes_exactly(kind, tmp_path, monkeypatch):
    file = tmp_path / "vectors.tsv"
    features = features_in(featured())
    rows = zip(features.labels.to_pylist(), features.table[:, :3].tolist(), strict=True)
    file.write_text(
        "".join("\t".join([n, *map(repr, row)]) + "\n" for n, row in rows if row[0] == row[0])
    )
    data = ring()
    settings = KINDS[kind]().model_dump()
    settings["encoder"]["features"] = str(file)
    config = parse_config({k: v for k, v in settings.items() if v is not None})
    run = train(config, data, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        before_step(patch, 7, interrupt)
        with pytest.raises(Interrupted):
            train(config, data, tmp_path / "parts", progress=False)
    resumed = train(config, data, tmp_path / "parts", progress=False, resume=True)
    assert_same(resumed, run)

    expected = kgtool.evaluate(run).mrr
    file.write_text(file.read_text().replace("e005\t", "e005\t1"))
    with pytest.raises(RunError, match="begun with other features"):
        train(config, data, tmp_path / "parts", progress=False, resume=True)
    file.unlink()
    shutil.move(run.path, tmp_path / "moved")
    moved = Run.open(tmp_path / "moved")
    assert kgtool.evaluate(moved).mrr == expected
    (tmp_path / "moved" / FEATURES).unlink()
    with pytest.raises(RunError, match="no such checkpoint"):
        kgtool.evaluate(moved)
    os.link(tmp_path / "parts" / BEST, tmp_path / "moved" / FEATURES)
    with pytest.raises(RunError, match="invalid content"):
        kgtool.evaluate(moved)


def test_features_of_another_run_are_refused(tmp_path):
    config = KINDS["alone"](epochs=1)
    for i in range(2):
        train(config, featured(seed=i), tmp_path / str(i), progress=False)
    shutil.copyfile(tmp_path / "0" / FEATURES, tmp_path / "1" / FEATURES)
    with pytest.raises(RunError, match="belongs to another run"):
        kgtool.evaluate(tmp_path / "1")


def test_the_weights_hold_no_row_of_an_entity(tmp_path):
    run = train(KINDS["alone"](epochs=1), featured(), tmp_path / "run", progress=False)
    tensors, _ = load_tensors(run.path / BEST)
    assert not {"encoder.entities", "decoder.bias"} & tensors.keys()
    assert {"encoder.features.mean", "encoder.features.scale"} <= tensors.keys()


# Entities of modules, where features decide the module and relations join modules.
MODULES, PER = 5, 16


def planted(part: int) -> KGDataset:
    """A graph where `r` leads from a module to the next one, to any of its entities."""
    draw = np.random.default_rng(part)
    module = {f"{part}-{i}": i % MODULES for i in range(MODULES * PER)}
    by_module = [[n for n, m in module.items() if m == k] for k in range(MODULES)]
    rows = [
        (name, "r", str(draw.choice(by_module[(m + 1) % MODULES])))
        for name, m in module.items()
        for _ in range(6)
    ]
    rows = list(dict.fromkeys(rows))
    draw.shuffle(rows)
    centres = np.random.default_rng(99).normal(size=(MODULES, 6))
    vectors = {n: centres[m] + draw.normal(size=6) * 0.2 for n, m in module.items()}
    triples = [tuple(row) for row in rows]
    return kgtool.dataset_of(
        triples[60:], triples[:30], triples[30:60], name=f"part{part}", features=vectors
    )


def share_of_next(frame: Any, module: int) -> float:
    """The share of the answers that are in the module after a module."""
    own = [int(name.split("-")[1]) % MODULES == (module + 1) % MODULES for name in frame["tail"]]
    return sum(own) / len(own)


def planted_config(**encoder: str) -> Config:
    return tiny_config(
        dim=16, encoder=encoder, epochs=12, learning_rate=0.05, batch_size=64, validate_every=4,
        input_dropout=0.0, output_dropout=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("planted")
    config = planted_config(entity_init="features")
    return train(config, planted(0), place / "run", progress=False)


def test_another_graph_is_answered_by_its_features(trained, tmp_path):
    other = planted(1)
    answers = kgtool.predict(trained, "1-7", "r", top=8, include_known=True, data=other)
    assert share_of_next(answers, 7 % MODULES) > 0.8  # chance is 0.2
    with pytest.warns(KGToolWarning, match="80 of 80 entities of part1 have no features"):
        blind = kgtool.evaluate(trained, data=replace(other, features=None)).mrr
    assert kgtool.evaluate(trained, data=other).mrr > 2 * blind
    # The same data as files, with the vectors in a file.
    folder = write_folder(other, tmp_path / "other")
    vectors = features_in(other)
    np.save(tmp_path / "x.npy", vectors.table.numpy())
    (tmp_path / "x.txt").write_text("\n".join(vectors.labels.to_pylist()))
    loaded = kgtool.load_dataset(folder, features=tmp_path / "x.npy")
    assert kgtool.evaluate(trained, data=loaded).mrr == kgtool.evaluate(trained, data=other).mrr
    with pytest.raises(DataError, match="the features have 1 numbers, but the run was trained"):
        kgtool.evaluate(trained, data=replace(other, features=features_of({"1-7": [1]})))


@pytest.mark.parametrize("kind", ["alone", "added"])
def test_a_new_entity_is_answered_by_its_features(kind, trained, tmp_path):
    run = trained
    if kind == "added":
        config = planted_config(features="data")
        run = train(config, planted(0), tmp_path / "run", progress=False)
    module = 2
    vector = run.features().of([f"0-{module}"])[0].tolist()
    # Features alone overrule a fact that speaks for another module.
    fact = "0-3" if kind == "alone" else "0-1"
    extended = kgtool.extend(
        run, [(fact, "r", "new"), ("bare", "r", "0-0")], tmp_path / "more",
        features={"new": vector},
    )  # fmt: skip
    answers = kgtool.predict(extended, "new", "r", top=8)
    assert share_of_next(answers, module) > 0.8
    assert extended.read_info()["extended"]["new entities without features"] == 1
    again = kgtool.extend(extended, [("0-4", "r", "newer")], tmp_path / "again")
    assert torch.equal(again.features().of(["new"]), extended.features().of(["new"]))
    # Statistics are those of the training.
    names = ("encoder.features.mean", "encoder.features.scale")
    before, after = (load_tensors(each.path / BEST)[0] for each in (run, again))
    assert all(torch.equal(before[name], after[name]) for name in names)


def test_vectors_of_labels_outside_the_graph_stay_in_the_run(tmp_path):
    data = planted(0)
    vectors = dict(zip(features_in(data).labels.to_pylist(), features_in(data).table, strict=True))
    more = replace(data, features=features_of(vectors | {"later": vectors["0-2"]}))
    run = train(KINDS["alone"](epochs=1), more, tmp_path / "run", progress=False)
    extended = kgtool.extend(run, [("0-3", "r", "later")], tmp_path / "more")
    assert extended.read_info()["extended"]["new entities without features"] == 0
    assert torch.equal(extended.features().of(["later"])[0], vectors["0-2"])


def test_a_run_may_start_from_another(tmp_path):
    data = featured()
    first = train(KINDS["alone"](epochs=1), data, tmp_path / "first", progress=False)
    second = train(
        KINDS["alone"](epochs=1), data, tmp_path / "second", progress=False, init_from=first
    )
    assert second.history()[0]["epoch"] == 0
    narrow = replace(data, features=features_of({"e001": [1], "e002": [2]}))
    with pytest.raises(DataError, match="the features have 1 numbers"):
        train(KINDS["alone"](), narrow, tmp_path / "third", progress=False, init_from=first)
    with pytest.raises(RunError, match=r"encoder.features is set there and not set here"):
        train(
            tiny_config(encoder={"entity_init": "relations"}), ring(), tmp_path / "fourth",
            progress=False, init_from=train(
                KINDS["to relations"](epochs=1), data, tmp_path / "fifth", progress=False
            ),
        )  # fmt: skip


def test_settings_that_do_not_fit_are_refused():
    def parsed(**encoder: Any) -> Config:
        return parse_config({"one_path": {}, "encoder": encoder})

    assert parsed(entity_init="features").encoder.features == "data"  # type: ignore[union-attr]
    assert parsed(entity_init="features").inductive
    assert parsed(entity_init="relations", features="x.npy").inductive
    assert not parsed(entity_init="relations").inductive
    assert not parsed(features="x.npy").inductive
    for empty in ("", [""][:0]):
        with pytest.raises(ConfigError, match="features names no file"):
            parsed(features=empty)
    with pytest.raises(ConfigError, match="data set small has none"):
        build_model(KINDS["alone"](), ring())
    sampled = {"training": "negative_sampling", "num_negatives": 4}
    settings = {"one_path": sampled, "training": {"optimizer": "adagrad"}}
    with pytest.raises(ConfigError, match="entity_init = 'embedding' or 'features', not 'rel"):
        parse_config(settings | {"encoder": {"entity_init": "relations"}})
