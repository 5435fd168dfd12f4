"""Queries to a run, in Python and on the command line."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyoxigraph
import pytest
import torch
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.data.dataset import KGDataset
from kgtool.errors import DataError, KGToolError, RunError
from kgtool.export.ntriples import label_of
from kgtool.export.predictions import save_predictions
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.storage.tables import load_table
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder


@pytest.fixture(scope="module", params=["one path", "all paths"])
def trained(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    data = write_folder(ring(), folder / "ring")
    config = tiny_config() if request.param == "one path" else all_paths_config()
    config = config.model_copy(update={"data": str(data)})
    return kgtool.train(config, kgtool.load_dataset(data), folder / "run").path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def facts(dataset: KGDataset) -> dict[tuple[str, ...], str]:
    names = dataset.vocabulary
    return {
        (names.entities[h], names.relations[r], names.entities[t]): split
        for split in ("test", "valid", "train")
        for h, r, t in dataset.split(split).tolist()
    }


def test_every_kind_of_question(run):
    asked = kgtool.open_predictor(run)
    names = asked.dataset.vocabulary
    questions = [
        ("e000", "r000", "?"), ("?", "r000", "e003"), ("e000", "?", "e001"), ("e000", "^r001", "?"),
        ("e000", "r000/r001", "?"), ("?", "r000/r001", "e003"),
    ]  # fmt: skip
    new = kgtool.predict(asked, questions, top=4)
    known = facts(asked.dataset)
    assert new["question"].tolist() == sorted(new["question"])
    assert set(new["question"]) == set(range(6))
    assert not new["known"].any()
    for row in new.itertuples():
        assert (row.head, row.relation, row.tail) not in known
    steps = new[new["question"].isin([0, 1, 2, 3])]
    assert steps["probability"].between(0, 1).all()
    assert new[new["question"] > 3]["probability"].isna().all()
    for number in range(6):
        assert new[new["question"] == number]["score"].is_monotonic_decreasing
    every = kgtool.predict(asked, questions, top=100, include_known=True)
    first = every[every["question"] == 0]
    assert len(first) == asked.dataset.num_entities
    scores = asked.scorer.score_t(torch.tensor([[0, 0]]))[0]
    by_label = dict(zip(first["tail"], first["score"], strict=True))
    for i, label in enumerate(names.entities):
        assert by_label[label] == pytest.approx(float(scores[i]), abs=1e-5)
    for row in first.itertuples():
        assert row.known == known.get((row.head, row.relation, row.tail), "")
        assert np.isnan(row.probability) == bool(row.known)
    of_pair = every[every["question"] == 2]
    assert len(of_pair) == asked.dataset.num_relations
    assert of_pair["probability"].sum() == pytest.approx(1)
    led = every[(every["question"] == 4) & (every["known"] == "facts")]["tail"].tolist()
    middle = {t for h, r, t in known if (h, r) == ("e000", "r000")}
    assert set(led) == {t for h, r, t in known if h in middle and r == "r001"}


def test_one_answer_asked_from_either_side_has_one_probability_each(run):
    asked = kgtool.open_predictor(run)
    alone = kgtool.predict(asked, [("e000", "r000", "?")], top=3)
    beside = kgtool.predict(asked, [("e001", "r002", "?"), ("e000", "r000", "?")], top=3)
    pd.testing.assert_frame_equal(
        alone.drop(columns="question"),
        beside[beside["question"] == 1].drop(columns="question").reset_index(drop=True),
    )


def test_types_leave_out_what_train_has_not_shown(run, tmp_path):
    asked = kgtool.open_predictor(run)
    train, names = asked.dataset.train, asked.dataset.vocabulary
    shown = {names.entities[t] for t in train[train[:, 1] == 0][:, 2].tolist()}
    found = kgtool.predict(asked, [("e000", "r000", "?")], top=100, filter_types=True)
    assert set(found["tail"]) <= shown
    assert 0 < len(found) < asked.dataset.num_entities


def test_what_is_fitted_is_kept_and_found_again(run):
    first = kgtool.predict(run, [("e000", "r000", "?"), ("e000", "?", "e001")])
    kept = [
        one for name in ("probability", "relations") for one in run.glob(f"{name}.*.safetensors")
    ]
    assert len(kept) == 2
    before = [file.stat().st_mtime_ns for file in kept]
    pd.testing.assert_frame_equal(
        first, kgtool.predict(run, [("e000", "r000", "?"), ("e000", "?", "e001")])
    )
    assert [file.stat().st_mtime_ns for file in kept] == before
    for file, question in zip(kept, [("e000", "r000", "?"), ("e000", "?", "e001")], strict=True):
        file.write_bytes(b"\x08" + bytes(20))
        with pytest.raises(RunError, match="damaged"):
            kgtool.predict(run, [question])


def test_what_was_fitted_for_other_weights_is_not_found(run):
    questions = [("e000", "r000", "?")]
    before = kgtool.predict(run, questions)
    weights, state = load_tensors(run / "best.safetensors")
    save_tensors(run / "best.safetensors", {k: -v for k, v in weights.items()}, state)
    after = kgtool.predict(run, questions)
    assert len(list(run.glob("probability.*"))) == 2
    assert before["tail"].tolist() != after["tail"].tolist()
    assert kgtool.open_predictor(run).probability is not None


def test_a_run_that_cannot_be_written_to_answers(run, monkeypatch):
    questions = [("e000", "r000", "?"), ("e000", "?", "e001")]
    expected = kgtool.predict(shutil.copytree(run, run.parent / "copy"), questions)
    near = kgtool.neighbours(run.parent / "copy", "e003")

    def refuse(path, *_):
        raise KGToolError(f"cannot write {path}")

    monkeypatch.setattr("kgtool.storage.checkpoint.atomic_write", refuse)
    pd.testing.assert_frame_equal(kgtool.predict(run, questions), expected)
    pd.testing.assert_frame_equal(kgtool.neighbours(run, "e003"), near)
    assert not list(run.glob("probability*"))


def test_readable_names_are_understood(run, tmp_path):
    names = tmp_path / "names.tsv"
    names.write_text("e000\tThe First\ne001\tTwin\ne002\tTwin\n")
    by_name = kgtool.predict(run, [("The First", "r000", "?")], labels=names)
    pd.testing.assert_frame_equal(by_name, kgtool.predict(run, [("e000", "r000", "?")]))
    with pytest.raises(DataError, match="is the name of 2 entities"):
        kgtool.predict(run, [("Twin", "r000", "?")], labels=names)


def test_the_graph_is_completed(run):
    found = kgtool.complete(run, top=20)
    assert len(found) == 20
    known = facts(kgtool.Run.open(run).dataset())
    for row in found.itertuples():
        assert (row.head, row.relation, row.tail) not in known
    assert found["probability"].is_monotonic_decreasing
    assert found.attrs == {"asked": 24, "of": 24}
    some = kgtool.complete(run, top=5, relations=["r001"])
    assert set(some["relation"]) == {"r001"}


def test_neighbours_are_those_of_the_exported_states(run, tmp_path):
    found = kgtool.neighbours(run, "e003", top=5)
    kgtool.export(run, tmp_path / "export")
    table = pd.read_csv(tmp_path / "export" / "embeddings.tsv", sep="\t", keep_default_na=False)
    rows = table[table["kind"] == "entity"].set_index("label").drop(columns="kind").astype(float)
    unit = rows.div(np.linalg.norm(rows, axis=1), axis=0)
    cosine = (unit @ unit.loc["e003"]).drop("e003").sort_values(ascending=False)
    assert found["entity"].tolist() == cosine.index[:5].tolist()
    assert found["cosine"].tolist() == pytest.approx(cosine[:5].tolist(), abs=1e-5)
    pd.testing.assert_frame_equal(found, kgtool.neighbours(run, "e003", top=5))  # as kept


def test_on_the_command_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    call = CliRunner().invoke
    result = call(app, ["predict", str(run), "e000", "r000", "?", "--top", "2"])
    assert result.exit_code == 0, result.output
    assert "e000 r000 ?" in result.output
    assert result.output.count("\n") < 12
    questions = tmp_path / "q.tsv"
    questions.write_text("e000\tr000\t?\n?\tr001\te004\n")
    for ending in ("tsv", "jsonl", "parquet"):
        out = tmp_path / f"answers.{ending}"
        result = call(
            app,
            ["predict", str(run), "--queries", str(questions), "--top", "3", "--out", str(out)],
        )
        assert result.exit_code == 0, result.output
        assert "6 answers written" in result.output
    tsv = load_table(tmp_path / "answers.tsv")
    parquet = pd.read_parquet(tmp_path / "answers.parquet")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert tsv["tail"].tolist() == parquet["tail"].tolist() == [row["tail"] for row in lines]
    assert parquet["score"].tolist() == pytest.approx([row["score"] for row in lines])
    result = call(app, ["complete", str(run), "--top", "3", "--out", str(tmp_path / "new.tsv")])
    assert result.exit_code == 0, result.output
    assert len(load_table(tmp_path / "new.tsv")) == 3
    result = call(app, ["predict", str(run), "e003", "--task", "neighbours", "--top", "3"])
    assert result.exit_code == 0, result.output
    assert "cosine" in result.output


def test_predictions_as_n_triples(run, tmp_path):
    asked = kgtool.open_predictor(run)
    found = kgtool.predict(asked, [("e000", "r000", "?"), ("e000", "^r001", "?")], top=3)
    save_predictions(found, tmp_path / "x.nt", asked.dataset.vocabulary)
    statements: dict[str, dict[str, str]] = {}
    for triple in pyoxigraph.parse(path=tmp_path / "x.nt"):
        name = triple.predicate.value.replace("#", ":").rsplit(":", 1)[-1]
        thing = triple.object
        value = thing.value if isinstance(thing, pyoxigraph.Literal) else label_of(thing)
        statements.setdefault(str(triple.subject), {})[name] = value
    read = [(s["subject"], s["predicate"], s["object"]) for s in statements.values()]
    rows = found.itertuples()
    turned = [
        (r.head, r.relation, r.tail) if r.relation == "r000" else (r.tail, "r001", r.head)
        for r in rows
    ]
    assert read == turned
    chances = [float(s["confidence"]) for s in statements.values()]
    assert chances == found["probability"].tolist()
    path = kgtool.predict(asked, [("e000", "r000/r001", "?")], top=3)
    with pytest.raises(DataError, match="is not a relation, so N-Triples"):
        save_predictions(path, tmp_path / "y.nt", asked.dataset.vocabulary)
    assert not (tmp_path / "y.nt").exists()


def test_standard_input(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"e000\tr000\t?\n")))
    monkeypatch.setattr(sys, "argv", ["kgtool", "predict", str(run), "--queries", "-"])
    with pytest.raises(SystemExit) as caught:
        kgtool.cli.main()
    assert not caught.value.code
    assert "e000 r000 ?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["e000", "r000", "e001"], ["is not a query with one '?'"]),
        (["e000", "r0", "?"], ["unknown relation 'r0'", "did you mean 'r00"]),
        (["e0000", "r000", "?"], ["unknown entity 'e0000'", "Remedy"]),
        ([], ["give one query, or a file of queries with --queries"]),
        (
            ["e000", "r000", "?", "--queries", "q.tsv"],
            ["give one query, or a file of queries with --queries"],
        ),
        (["--queries", "none.tsv"], ["none.tsv", "cannot be read"]),
        (["e000", "r000", "?", "--labels", "none.tsv"], ["none.tsv"]),
        (
            ["e000", "r000", "?", "--out", "x.csv"],
            ["unsupported output format. Remedy: use .tsv, .parquet, .jsonl or .nt"],
        ),
    ],
)
def test_mistakes_are_told(trained, tmp_path, monkeypatch, capsys, arguments, parts):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["kgtool", "predict", str(run), *arguments])
    with pytest.raises(SystemExit) as caught:
        kgtool.cli.main()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("kgtool: ") == 1
    assert all(part in " ".join(err.split()) for part in parts), err
    assert "Traceback" not in err
