"""Arguments of the public functions are checked before any work; each has one meaning."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import kgtool
from kgtool.api.arguments import CHECKS
from kgtool.data.dataset import SPLITS
from kgtool.errors import ConfigError, DataError, KGToolError, RunError
from kgtool.runs.run import TRIPLES
from tests.support.runs import all_paths_config, combined_config, ring, tiny_config, write_folder

TRIPLES_OF_RING = ring().to_frame("train")
# Checked where they are used: labels are looked up, and triples are read.
ELSEWHERE = {"head", "relation", "tail", "entity", "triples", "assumed_missing", "features"}
FUNCTIONS = {
    name: function
    for name in kgtool.__all__
    if inspect.isfunction(function := getattr(kgtool, name))
    and function.__module__.startswith("kgtool.api.")
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arguments")


@pytest.fixture(scope="module")
def run(folder: Path) -> kgtool.Run:
    data = kgtool.load_dataset(write_folder(ring(), folder / "ring"))
    return kgtool.train(combined_config(epochs=1), data, folder / "run", progress=False)


def test_every_argument_is_checked() -> None:
    assert len(FUNCTIONS) >= 18
    names = {name for each in FUNCTIONS.values() for name in inspect.signature(each).parameters}
    assert names - ELSEWHERE == set(CHECKS) - {"relation"}


WRONG: dict[str, list[Any]] = {
    "run": [None, 3, {}, [], pd.DataFrame(), ""],
    "runs": [None, "run", {}, [3]],
    "ensemble": ["run", [3], 3],
    "init_from": [3, {}],
    "config": [3, [], None],
    "data": [3, {}, pd.DataFrame(), [("a", "r", "b")]],
    "dataset": [None, 3, {}, pd.DataFrame()],
    "split": ["tset", 3, None, ["test"], np.array(["test", "valid"])],
    "reading": ["csv", {}],
    "out": [3, ""],
    "place": [3, None, pd.DataFrame()],
    "top": [0, -1, 2.5, "10", True],
    "hits": [3, "10", [0], [], [1.5]],
    "lengths": [2, [0], []],
    "seed": [-1, 1.5, "0", True],
    "valid": ["0.1", None, True],
    "progress": ["no", 1],
    "relations": ["r"],
    "walk": ["e000"],
    "formats": ["tsv", [3]],
    "keep_columns": ["year", [3]],
    "part": [3, ["a"]],
    "track": [3, [3]],
    "port": [-1, 70000, "80"],
    "labels": [{"a": "b"}, 3],
    "candidates": [3, ""],
}
CASES = [
    (function, name, value)
    for function, each in FUNCTIONS.items()
    for name in inspect.signature(each).parameters
    for value in WRONG.get(name, [])
]


@pytest.mark.parametrize(("function", "name", "value"), CASES)
def test_a_wrong_argument_is_named_before_the_work(function, name, value, tmp_path) -> None:
    """The other arguments are never looked at: none of them exists."""
    parameters = inspect.signature(FUNCTIONS[function]).parameters
    required = {
        other: {"runs": ["none"], "config": {}, "walk": ["a"]}.get(other, "none")
        for other, parameter in parameters.items()
        if parameter.default is parameter.empty
    }
    with pytest.raises(KGToolError) as caught:
        FUNCTIONS[function](**(required | {name: value}))
    assert str(caught.value).startswith(f"{name} is ")
    assert ". Remedy: " in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


def test_a_default_and_numbers_of_numpy_pass(run: kgtool.Run) -> None:
    assert len(kgtool.predict(run, "e000", "r000", top=np.int64(3))) == 3
    assert kgtool.evaluate(run, "test", None, hits=(np.int64(1), 3)).evaluation.hits == (1, 3)
    with pytest.raises(ConfigError, match=r"split is 'tset'\. Remedy: did you mean 'test'\?"):
        kgtool.evaluate(run, "tset")


@pytest.mark.parametrize(
    ("function", "name", "hint"),
    [
        (kgtool.evaluate, "splt", " (did you mean 'split'?). Remedy: its arguments are run, split"),
        (kgtool.serve, "prot", " (did you mean 'port'?). Remedy: its arguments are run, data"),
        (kgtool.fetch, "xyz", ". Remedy: its arguments are name, url, progress."),
    ],
)
def test_an_unknown_argument_is_named_with_the_nearest(function, name, hint) -> None:
    with pytest.raises(ConfigError) as caught:
        function("none", **{name: 3})
    place = f"kgtool.{function.__name__} has no argument '{name}'{hint}"
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize("missing", [0, -1, 2.5, "3", True])
def test_assumed_missing_is_checked_in_one_place(missing) -> None:
    for function in (kgtool.open_predictor, kgtool.serve):
        with pytest.raises(ConfigError, match=r"assumed_missing is .* Remedy: give a number of f"):
            function("none", assumed_missing=missing)


def test_a_reading_is_checked(tmp_path) -> None:
    for wrong in ({"header": "yes"}, {"truth": 3}, {"skip_bad_lines": "no"}):
        (name,) = wrong
        with pytest.raises(ConfigError, match=f"{name} is .* Remedy: pass"):
            kgtool.Reading(**wrong)
    place = write_folder(ring(), tmp_path / "ring")
    for reading in (3, {"columns": "1,2,3"}):
        with pytest.raises(ConfigError, match=r"reading is .* Remedy: pass a kgtool\.Reading"):
            kgtool.load_dataset(place, reading=reading)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"reading is .* Remedy: pass a kgtool\.Reading"):
            kgtool.read_triples(place / "train.txt", reading)  # type: ignore[arg-type]


def test_the_signature_stays() -> None:
    assert list(inspect.signature(kgtool.explain).parameters)[:4] == [
        "run", "head", "relation", "tail",
    ]  # fmt: skip
    assert "relation paths" in (kgtool.explain.__doc__ or "")


# --- runs, data and configurations come in several forms


def test_a_run_comes_as_itself_its_folder_or_a_predictor(run, folder) -> None:
    predictor = kgtool.open_predictor(run)
    forms = [run, run.path, str(run.path), predictor]
    assert len({kgtool.evaluate(form).mrr for form in forms}) == 1
    assert len({kgtool.explain(form, "e000", "r000", "e001") for form in forms}) == 1
    assert kgtool.open_predictor(predictor).dataset is predictor.dataset
    assert [len(kgtool.complete(form, top=3)) for form in forms] == [3] * 4
    assert list(kgtool.compare([predictor, folder / "run" / "ranks.test.tsv"])["run"].unique())


def test_what_a_predictor_has_is_not_given_again(run) -> None:
    predictor = kgtool.open_predictor(run)
    for call in (
        lambda: kgtool.predict(predictor, "e000", "r000", data=run.dataset()),
        lambda: kgtool.evaluate(predictor, data=run.dataset()),
        lambda: kgtool.neighbours(predictor, "e000", labels="names.tsv"),
    ):
        with pytest.raises(RunError, match="does not go with a predictor"):
            call()


def test_a_configuration_and_data_come_in_several_forms(run, folder, tmp_path) -> None:
    config = combined_config(epochs=1)
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    weights = []
    for i, each in enumerate((config, config.model_dump(exclude_none=True), file, str(file))):
        made = kgtool.train(each, folder / "ring", tmp_path / f"run{i}", progress=False)
        weights.append(made.weights_digest())
    assert set(weights) == {run.weights_digest()}
    with pytest.raises(ConfigError, match=r"the configuration: unknown key 'dmi'"):
        kgtool.train({"dmi": 3}, folder / "ring", tmp_path / "none")
    assert kgtool.load_config({"dim": 16}, ["training.epochs=3"]).training.epochs == 3


# --- training on data in memory


@pytest.mark.parametrize("valid", [None, []], ids=["none", "empty"])
def test_training_without_valid_fails_before_it_begins(valid, tmp_path) -> None:
    data = kgtool.dataset_of(TRIPLES_OF_RING, valid)
    with pytest.raises(DataError, match=r"memory: valid holds no triples.*kgtool\.split"):
        kgtool.train(tiny_config(), data, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_on_data_in_memory_holds_them(tmp_path) -> None:
    data = kgtool.split(ring().to_frame(), seed=1)
    run = kgtool.train(all_paths_config(epochs=1), data, tmp_path / "run", progress=False)
    (tmp_path / "run").rename(tmp_path / "moved")
    again = kgtool.Run.open(tmp_path / "moved")
    assert again.dataset().fingerprint == data.fingerprint
    assert again.dataset().name == "memory"
    mrr = kgtool.evaluate(again).mrr
    assert mrr == kgtool.evaluate(again, data=data).mrr
    assert len(kgtool.predict(tmp_path / "moved", "e000", "r000"))
    assert run.path != again.path
    grown = kgtool.extend(again, pd.DataFrame([("new", "r000", "e001")]), tmp_path / "grown")
    assert "new" in grown.dataset().vocabulary.entities
    (again.path / TRIPLES).write_bytes(b"damaged")
    with pytest.raises(RunError, match="damaged"):
        again.dataset()
    (again.path / TRIPLES).unlink()
    with pytest.raises(RunError, match="records no data path"):
        again.dataset()


def test_data_in_memory_get_the_ids_of_the_run(run, tmp_path) -> None:
    """Fewer labels, in another order: the same triples have other ids."""
    own = run.dataset()
    frame = own.to_frame()
    part = kgtool.dataset_of(
        frame[frame["split"] == "train"], frame[frame["split"] == "valid"],
        frame[(frame["split"] == "test")].head(3), name="part",
    )  # fmt: skip
    odd = kgtool.KGDataset(
        "odd", None,
        kgtool.Vocabulary(own.vocabulary.entities[::-1], own.vocabulary.relations[::-1]),
        *(
            torch.stack([own.num_entities - 1 - triples[:, 0],
                         own.num_relations - 1 - triples[:, 1],
                         own.num_entities - 1 - triples[:, 2]], dim=1)
            for triples in map(own.split, SPLITS)
        ),
    )  # fmt: skip
    assert odd.to_frame().equals(own.to_frame())
    assert kgtool.evaluate(run, data=odd).mrr == pytest.approx(kgtool.evaluate(run).mrr, abs=1e-6)
    assert kgtool.evaluate(run, data=part).evaluation.counts["triples"] == 3
    embeddings = kgtool.train(tiny_config(epochs=1), own, tmp_path / "run", progress=False)
    assert kgtool.evaluate(embeddings, data=odd).mrr == kgtool.evaluate(embeddings).mrr
    strange = kgtool.dataset_of([("x", "r000", "y")], [("x", "r000", "y")])
    with pytest.raises(DataError, match=r"train of memory, row 1: the entity 'x' is not in"):
        kgtool.evaluate(embeddings, "valid", strange)


@pytest.mark.parametrize("split", ["test", "train"])
def test_an_empty_split_is_named(run, split) -> None:
    own = run.dataset()
    data = kgtool.dataset_of(own.to_frame("train"), own.to_frame("valid"))
    calls: list[Any] = [kgtool.evaluate, kgtool.evaluate_relations, kgtool.evaluate_triples]
    if split == "train":
        for call in (kgtool.evaluate_paths, kgtool.evaluate_triples):
            with pytest.raises(ConfigError, match=r"split is 'train'\. Remedy: pass one of valid,"):
                call(run, "train")
        return
    for call in (*calls, kgtool.evaluate_paths, kgtool.report):
        with pytest.raises(DataError, match="memory: test holds no triples"):
            call(run, data=data)
    with pytest.raises(DataError, match="memory: test holds no triples"):
        kgtool.evaluate_baselines(data)


@pytest.mark.parametrize("label", [None, 3.5, True, ["e000"], "e00x"])
def test_a_label_that_is_none_is_an_error(run, label) -> None:
    predictor = kgtool.open_predictor(run)
    for call in (
        lambda: kgtool.explain(predictor, label, "r000", "e001"),
        lambda: kgtool.explain(predictor, "e000", label, "e001"),
        lambda: kgtool.neighbours(predictor, label),
        lambda: kgtool.complete(predictor, relations=[label]),
    ):
        with pytest.raises(DataError, match=r"Remedy: "):
            call()


@pytest.mark.parametrize("value", [3, None, pd.DataFrame(), {}.keys()], ids=str)
@pytest.mark.parametrize(
    "function",
    [kgtool.load_dataset, kgtool.load_config, kgtool.read_triples, kgtool.Run.open],
    ids=lambda function: function.__name__,
)
def test_what_is_not_a_path_is_named(function, value) -> None:
    with pytest.raises(KGToolError, match=r"paths?|places"):
        function(value)


def test_columns_are_a_tuple_or_a_text() -> None:
    assert kgtool.Reading(columns="a,b,c") == kgtool.Reading(columns=("a", "b", "c"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="format is 3"):
        kgtool.Reading(format=3)  # type: ignore[arg-type]
