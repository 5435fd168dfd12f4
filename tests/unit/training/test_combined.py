"""A model of embeddings and all paths: its parts are trained apart, in one run."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import kgtool
from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.errors import ConfigError, Interrupted, KGToolWarning, RunError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.combined import CombinedScorer
from kgtool.models.scorers import SumScorer, as_scorer
from kgtool.runs.run import BEST, LAST, LOG, PREVIOUS, Run, part_of
from kgtool.storage.checkpoint import load_tensors
from kgtool.training.step import Updater
from kgtool.training.trainer import _Trainer, train
from tests.support.runs import Table, all_paths_config, combined_config, ring, tiny_config
from tests.unit.training.test_trainer import assert_same, interrupt

# Steps of the one-path part of `combined_config`, and of its all-paths part, on the ring.
ONE, PATHS = 12, 16


def fit(config: Config, out: Path, dataset: KGDataset | None = None, resume: bool = False) -> Run:
    return train(config, dataset or ring(), out, resume=resume, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(combined_config(), tmp_path_factory.mktemp("combined") / "run")


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Call a function at the beginning of a step of the run, counted from 1 over both parts."""
    original, done = Updater.make_step, [0]

    def step(self: Any, rows: torch.Tensor) -> float:
        done[0] += 1
        if done[0] == number:
            act()
        return original(self, rows)

    monkeypatch.setattr(Updater, "make_step", step)


def stopped(out: Path, step: int) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, interrupt)
        with pytest.raises(Interrupted):
            fit(combined_config(), out)
    return Run.open(out)


def test_each_part_has_the_weights_of_a_run_of_its_own(run, tmp_path):
    tensors, state = load_tensors(run.path / LAST)
    assert state["part"] == 1
    for name, config in run.config.parts.items():
        alone = fit(config, tmp_path / name)
        own = load_tensors(alone.path / LAST)[0]
        for key, best in load_tensors(alone.path / BEST)[0].items():
            # The sum uses the best embeddings. Its passes are at their last step.
            expected = best if name == "one_path" else own[f"model.{key}"]
            assert torch.equal(tensors[f"model.{name}.{key}"], expected), (name, key)


def test_the_score_is_the_weighted_sum(run):
    dataset = ring()
    scorer = run.scorer(dataset)
    assert isinstance(scorer, CombinedScorer)
    weight = load_tensors(run.path / BEST)[0]["mixture.weight"]
    assert weight.shape == (6,)
    hr = torch.tensor([[0, 1], [5, 4], [7, 2]])
    one, paths = scorer.second.score_t(hr), scorer.first.score_t(hr)
    torch.testing.assert_close(scorer.score_t(hr), paths + weight[hr[:, 1]].unsqueeze(1) * one)
    hrt = torch.tensor([[0, 1, 3], [5, 4, 6]])
    beyond = scorer.beyond_passes(hrt)
    torch.testing.assert_close(beyond, scorer.score_hrt(hrt) - scorer.passes.score_hrt(hrt))


def test_validation_is_that_of_the_sum(run):
    """In the precision of the passes' training, here float32."""
    found = evaluate_model(run.scorer(ring()), ring(), "valid")
    best = run.best_validation()
    assert best["part"] == "all_paths"
    assert found.mrr == pytest.approx(best["valid_mrr"], abs=1e-9)
    parts = [row["part"] for row in run.history()]
    assert parts == ["one_path"] * 3 + ["all_paths"] * 4
    seconds = [row["seconds"] for row in run.history()]
    assert seconds == sorted(seconds)
    log = (run.path / LOG).read_text()
    assert "embeddings, epoch 1: loss" in log
    assert "paths, epoch 4: loss" in log
    assert "weight of the embeddings: mean" in log


@pytest.mark.parametrize("step", [1, 7, ONE, ONE + 1, ONE + 6, ONE + PATHS])
def test_a_run_stopped_and_resumed_is_the_run_never_stopped(run, tmp_path, step):
    stopped(tmp_path / "run", step)
    torch.rand(3)
    assert_same(fit(combined_config(), tmp_path / "run", resume=True), run)


@pytest.mark.parametrize("step", [7, ONE + 1, ONE + 6])
def test_a_killed_run_goes_on_from_the_checkpoint_before(run, tmp_path, step):
    """Its last checkpoint is damaged; the one before may belong to the part before."""
    stopped(tmp_path / "run", step)
    last = tmp_path / "run" / LAST
    last.write_bytes(last.read_bytes()[:-1])
    assert (tmp_path / "run" / PREVIOUS).exists()
    assert_same(fit(combined_config(), tmp_path / "run", resume=True), run)


def test_patience_ends_a_part_and_more_epochs_are_for_the_paths(tmp_path):
    config = combined_config(patience=1, learning_rate=1e-9)
    run = fit(config, tmp_path / "run")
    rows = pd.DataFrame(run.history())
    assert len(rows[rows["part"] == "all_paths"]) == 2
    longer = config.model_copy(
        update={"training": config.training.model_copy(update={"patience": 2})}
    )
    again = fit(longer, tmp_path / "run", resume=True)
    rows = pd.DataFrame(again.history())
    assert len(rows[rows["part"] == "all_paths"]) == 3
    assert rows["part"].tolist()[:1] == ["one_path"]


def test_embeddings_answer_until_the_paths_are_validated(tmp_path):
    for step, expected in ((ONE + 1, "best"), (2, "last")):
        run = stopped(tmp_path / expected, step)
        with pytest.warns(KGToolWarning) as warned:
            scorer = run.scorer(ring())
        assert "only its embeddings yet, which answer alone" in str(warned[-1].message)
        assert len(warned) == (1 if expected == "best" else 2)  # there is no validation yet
        assert scorer.passes is None
        assert scorer.has_states
        new = [("e000", "r000", "new")]
        with (
            pytest.warns(KGToolWarning) if expected == "last" else nullcontext(),
            pytest.raises(RunError, match=r"continue the training with --resume"),
        ):
            kgtool.extend(run, new, tmp_path / f"{expected}-extended")


def other_graph() -> KGDataset:
    """A ring of other entities, with the same relations."""
    return kgtool.dataset_of(
        [(f"x{i}", f"r00{i % 3}", f"x{(i + 1) % 12}") for i in range(12)],
        valid=[("x0", "r001", "x2")],
        test=[("x1", "r002", "x4")],
    )


def test_paths_answer_alone_on_another_graph(run, tmp_path):
    labels = set(run.vocabulary.relations)
    other = other_graph()
    assert labels >= set(other.vocabulary.relations)
    with pytest.warns(KGToolWarning, match="answers by paths alone: the graph has other entities"):
        scorer = run.scorer(run.dataset(other))
    assert scorer.passes is scorer
    weights = part_of(load_tensors(run.path / BEST)[0], "all_paths")
    own = scorer.passes.decoder.state_dict()
    assert all(torch.equal(own[n.removeprefix("decoder.")], t) for n, t in weights.items())
    early = stopped(tmp_path / "early", ONE + 1)
    with pytest.raises(RunError, match="do not know the entities of this graph"):
        early.scorer(early.dataset(other))


def test_a_part_of_the_own_entities_needs_no_other_model(run):
    """A graph of known entities has the run's ids, so that its embeddings serve."""
    labels = ring().vocabulary.entities[:10]
    some = kgtool.dataset_of(
        [(labels[i], "r000", labels[i + 1]) for i in range(9)],
        valid=[(labels[0], "r001", labels[2])],
        test=[(labels[1], "r001", labels[3])],
    )
    found = run.dataset(some)
    assert found.vocabulary == run.vocabulary
    assert isinstance(run.scorer(found), CombinedScorer)


def test_a_run_starts_from_another(run, tmp_path):
    config = combined_config()
    started = train(config, ring(), tmp_path / "run", progress=False, init_from=run)
    rows = started.history()
    assert (rows[0]["part"], rows[0]["epoch"]) == ("one_path", 0)
    first = Run.open(run.path).history()
    best = max(row["valid_mrr"] for row in first if row["part"] == "one_path")
    assert rows[0]["valid_mrr"] == pytest.approx(best, abs=1e-9)
    alone = fit(all_paths_config(), tmp_path / "alone")
    with pytest.raises(RunError, match="one_path is false there and true here"):
        train(config, ring(), tmp_path / "wrong", progress=False, init_from=alone)


def test_it_grows(run, tmp_path):
    grown = kgtool.extend(
        run, [("e000", "r000", "new"), ("new", "r001", "e003")], tmp_path / "grown"
    )
    before, after = (load_tensors(r.path / BEST)[0] for r in (run, grown))
    assert torch.equal(before["mixture.weight"], after["mixture.weight"])
    assert len(after["one_path.encoder.entities"]) == 1 + len(before["one_path.encoder.entities"])
    answers = kgtool.predict(grown, "new", "r000", top=3)
    assert len(answers) == 3


def test_all_that_a_run_is_for_works(run, tmp_path):
    found = kgtool.evaluate(run)
    assert found.mrr > 0
    assert "layers" not in found.about  # embeddings score what paths do not reach
    predictor = kgtool.open_predictor(run)
    why = predictor.explain("e000", "r000", "e005")
    assert why.score == pytest.approx(why.carried + why.rest)
    ids = torch.tensor([[predictor.labels.entity("e000"), 0, predictor.labels.entity("e005")]])
    assert isinstance(predictor.scorer, CombinedScorer)
    assert why.embeddings == pytest.approx(float(predictor.scorer.beyond_passes(ids)))
    assert f"the embeddings {why.embeddings:.2f}." in why.parts()
    assert len(kgtool.neighbours(run, "e000", top=3)) == 3
    files = kgtool.export(run, tmp_path / "export", formats=["npy"])
    assert files
    assert kgtool.evaluate_relations(run).evaluation.filtered["realistic"]["mrr"] > 0


def test_paths_alone_have_no_embeddings(tmp_path):
    run = fit(all_paths_config(), tmp_path / "run")
    for call in (
        lambda: kgtool.export(run, tmp_path / "export"),
        lambda: kgtool.neighbours(run, "e000"),
    ):
        with pytest.raises(RunError, match=r"no embeddings: its scores come from paths alone"):
            call()
    assert not (tmp_path / "export").exists()


def test_negative_sampling_in_several_processes_is_for_embeddings_alone(tmp_path, monkeypatch):
    drawn = tiny_config(num_negatives=4, optimizer="adagrad")
    config = Config.model_validate(
        {**drawn.model_dump(), "all_paths": all_paths_config().model_dump()["all_paths"]}
    )
    monkeypatch.setattr("kgtool.distributed.process_group.world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"remove the section \[all_paths\]"):
        fit(config, tmp_path / "run")


def test_sum_of_one_weight_and_of_one_for_each_relation():
    generator = torch.Generator().manual_seed(1)
    one, other = (Table(torch.rand(5, 4, 5, generator=generator)) for _ in range(2))
    hr = torch.tensor([[0, 1], [4, 3]])
    for weight in (0.3, torch.tensor([0.0, 1.0, 0.5, 2.0])):
        found = SumScorer(as_scorer(one), as_scorer(other), weight).score_t(hr)
        by_row = [weight] * 2 if isinstance(weight, float) else weight[hr[:, 1]].tolist()
        for row, scale in zip(range(2), by_row, strict=True):
            expected = one.score_t(hr)[row] + scale * other.score_t(hr)[row]
            torch.testing.assert_close(found[row], expected)


MODULES, MEMBERS = 8, 24


def modules() -> KGDataset:
    """Entities of 8 modules and 3 types: nine of ten edges stay inside a module."""
    draw = random.Random(2)
    ends = {"binds": (0, 1), "treats": (1, 2), "marks": (0, 2), "near": (0, 0)}
    names = [[f"m{m}t{i % 3}n{i}" for i in range(MEMBERS)] for m in range(MODULES)]
    triples: set[tuple[str, str, str]] = set()
    for relation, (head, tail) in ends.items():
        while sum(r == relation for _, r, _ in triples) < 350:
            module = draw.randrange(MODULES)
            other = module if draw.random() < 0.9 else draw.randrange(MODULES)
            h, t = (draw.choice(names[m][kind::3]) for m, kind in ((module, head), (other, tail)))
            if h != t:
                triples.add((h, relation, t))
    return kgtool.split(sorted(triples), seed=1)


def test_neighbours_share_a_module(tmp_path):
    """Passes know an entity's type at most; the embeddings know its module."""
    settings = {
        "dim": 8,
        "all_paths": {"layers": 2, "mlp_dim": 8},
        "one_path": {"dim": 32, "batch_size": 128},
        "training": {
            "epochs": 1, "steps_per_epoch": 4, "validate_every": 1,
            "one_path": {"epochs": 60, "steps_per_epoch": None, "validate_every": 20},
        },
    }  # fmt: skip
    run = kgtool.train(kgtool.load_config(settings), modules(), tmp_path / "run", progress=False)
    files = kgtool.export(run, tmp_path / "export", formats=["tsv"])
    table = pd.read_csv(files[0], sep="\t", dtype=str, keep_default_na=False)
    entities = table[table["kind"] == "entity"]
    vectors = torch.tensor(entities.iloc[:, 3:].astype(float).to_numpy())
    labels = entities["label"].tolist()
    cosine = torch.nn.functional.normalize(vectors, dim=1)
    cosine = (cosine @ cosine.t()).fill_diagonal_(-1)
    near = cosine.topk(5, dim=1)[1].tolist()
    shared = [labels[i][:2] == labels[j][:2] for i in range(len(labels)) for j in near[i]]
    assert sum(shared) / len(shared) > 0.7  # chance 0.12


def test_the_parts_read_one_graph(run, tmp_path):
    made = _Trainer(
        Run(tmp_path, run.config, run.vocabulary), ring(), logging.Logger("none"), progress=False
    )
    graphs = {id(part.model.graph) for part in made.parts.values()}
    assert len(graphs) == 1
