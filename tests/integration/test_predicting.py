"""Queries to a run, in Python and on the command line."""

from __future__ import annotations

import io
import json
import shlex
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
from kgtool.cli.app import print_next
from kgtool.data.dataset import KGDataset
from kgtool.errors import DataError, KGToolError, RunError
from kgtool.export.ntriples import label_of
from kgtool.export.predictions import save_predictions
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.storage.tables import load_table
from tests.support.runs import combined_config, ring, tiny_config, write_folder


@pytest.fixture(scope="module", params=["one path", "both parts"])
def trained(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    data = write_folder(ring(), folder / "ring")
    config = tiny_config() if request.param == "one path" else combined_config()
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
    for number in range(4):
        assert new[new["question"] == number]["probability"].is_monotonic_decreasing
    for number in (4, 5):
        assert new[new["question"] == number]["score"].is_monotonic_decreasing
    every = kgtool.predict(asked, questions, top=100, include_known=True, any_type=True)
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
    # No new relation need hold between the two.
    assert 0 < of_pair["probability"].sum() < 1
    for number in range(6):
        rows = every[every["question"] == number]
        is_known = rows["known"] != ""
        assert is_known.tolist() == sorted(is_known, reverse=True)  # known answers first
        assert rows.loc[is_known, "score"].is_monotonic_decreasing
    led = every[(every["question"] == 4) & (every["known"] == "facts")]["tail"].tolist()
    middle = {t for h, r, t in known if (h, r) == ("e000", "r000")}
    assert set(led) == {t for h, r, t in known if h in middle and r == "r001"}


def test_what_is_left_out_is_counted(run):
    asked = kgtool.open_predictor(run)
    questions = [("e000", "r000", "?"), ("e000", "?", "e001"), ("e000", "r000/r001", "?")]
    known = facts(asked.dataset)
    left_out = kgtool.predict(asked, questions).attrs["left_out"]
    tails = sorted(t for h, r, t in known if (h, r) == ("e000", "r000"))
    between = sorted(r for h, r, t in known if (h, t) == ("e000", "e001"))
    assert tails
    assert between
    for row, labels in zip(left_out, (tails, between), strict=False):
        assert (row["known"], row["examples"]) == (len(labels), labels[:5])
    assert left_out[2]["known"] > 0
    listed = kgtool.predict(asked, questions, include_known=True).attrs["left_out"]
    assert [row["known"] for row in listed] == [0, 0, 0]


def test_fewer_answers_are_the_first_of_more(run):
    asked = kgtool.open_predictor(run)
    questions = [("e000", "r000", "?"), ("?", "r001", "e003")]
    few, more = (kgtool.predict(asked, questions, top=top) for top in (3, 9))
    for number in (0, 1):
        tails = [found[found["question"] == number]["tail"].tolist() for found in (few, more)]
        assert tails[0] == tails[1][:3]


def test_an_entity_is_not_its_own_answer(run):
    asked = kgtool.open_predictor(run)
    assert not (asked.dataset.train[:, 0] == asked.dataset.train[:, 2]).any()
    question = [("e000", "r000", "?")]
    tails = kgtool.predict(asked, question, top=100)["tail"].tolist()
    own = kgtool.predict(asked, question, top=100, any_type=True)["tail"].tolist()
    assert sorted({*own} - {*tails}) == ["e000"]
    assert "e000" not in kgtool.complete(asked, top=500).query("head == tail")["head"].tolist()


def test_given_triples_are_scored_as_the_answers_are(run):
    asked = kgtool.open_predictor(run)
    answers = kgtool.predict(asked, [("e000", "r000", "?"), ("?", "r001", "e003")], top=5)
    known = next(triple for triple, split in facts(asked.dataset).items() if split == "train")
    answers = answers.sample(frac=1, random_state=1)  # another order, and an index of its own
    frame = pd.DataFrame(
        {
            "tail": [*answers["tail"], known[2], "e001"],
            "weight": 1.0,
            "relation": [*answers["relation"], known[1], "r000"],
            "head": [*answers["head"], known[0], "nobody"],
        },
        index=[*answers.index, 77, 78],
    )
    found = kgtool.score_triples(asked, frame)
    assert found.index.tolist() == frame.index.tolist()
    rows, turned = found.iloc[:-2], answers.iloc[:]
    assert rows["tail"].tolist() == turned["tail"].tolist()
    # The second query is asked from the other end: its probability is another one.
    first = (turned["question"] == 0).to_numpy()
    for column in ("score", "probability"):
        expected = turned[column][first].tolist()
        assert rows[column][first].tolist() == pytest.approx(expected, abs=1e-6)  # float32
    assert (rows["reason"] == "").all()
    assert (rows["known"] == "").all()
    assert found.loc[77, ["known", "reason"]].tolist() == ["train", ""]
    assert np.isfinite(found.loc[77, "score"])
    assert np.isnan(found.loc[77, "probability"])
    assert found.loc[78, "reason"] == "unknown entity 'nobody'"
    assert found.loc[78, ["head", "relation", "tail"]].tolist() == ["nobody", "r000", "e001"]
    assert np.isnan(found.loc[78, "score"])
    rows = list(frame[["head", "relation", "tail"]].itertuples(index=False, name=None))
    listed = kgtool.score_triples(asked, rows)
    pd.testing.assert_frame_equal(listed, found.reset_index(drop=True))
    with pytest.raises(DataError, match="triple 12: unknown entity 'nobody'"):
        kgtool.score_triples(asked, rows, strict=True)
    holes = pd.DataFrame({"head": ["e000", None], "relation": "r000", "tail": ["e003", "e001"]})
    assert kgtool.score_triples(asked, holes)["reason"].tolist() == ["", "no head"]
    assert len(kgtool.score_triples(asked, frame[:0])) == 0


def test_more_missing_facts_make_all_answers_likelier(run):
    chances = [
        kgtool.predict(
            kgtool.open_predictor(run, assumed_missing=missing), [("e000", "r000", "?")], top=100
        )
        .set_index("tail")["probability"]
        .sort_index()
        for missing in (1, 20, 400)
    ]
    assert (chances[0] < chances[1]).all()
    assert (chances[1] < chances[2]).all()
    assert len(list(run.glob("probability.*.safetensors"))) == 3
    with pytest.raises(KGToolError, match="assumed_missing is 0"):
        kgtool.open_predictor(run, assumed_missing=0)


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
    assert by_name["head_name"].unique().tolist() == ["The First"]
    plain = by_name.drop(columns=["head_name", "tail_name"])
    pd.testing.assert_frame_equal(plain, kgtool.predict(run, [("e000", "r000", "?")]))
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
        (["e000", "?", "?"], ["is not a query with one '?'"]),
        (["e000", "r000", "e1"], ["unknown entity 'e1'", "did you mean"]),
        (["e000", "r000", "e001", "--top", "3"], ["--top does not go with HEAD RELATION TAIL"]),
        (["--triples", "-", "--queries", "q.tsv"], ["--queries does not go with --triples"]),
        (["e000", "r000", "?", "--header"], ["--header does not go with --task links"]),
        (
            ["e000", "r000", "?", "--any-type", "--filter-types"],
            ["--any-type does not go with --filter-types"],
        ),
        (["e000", "r0", "?"], ["unknown relation 'r0'", "did you mean 'r00"]),
        (["e0000", "r000", "?"], ["unknown entity 'e0000'", "Remedy"]),
        ([], ["give one query, a file of queries with --queries, or a file of triples"]),
        (
            ["e000", "r000", "?", "--queries", "q.tsv"],
            ["give one query, a file of queries with --queries, or a file of triples"],
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


def lines_of(capsys, monkeypatch, *arguments: str) -> tuple[str, str, int]:
    """Standard output, standard error and exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["kgtool", *arguments])
    with pytest.raises(SystemExit) as caught:
        kgtool.cli.main()
    out, err = capsys.readouterr()
    return out, err, int(caught.value.code or 0)


def test_a_file_of_triples_is_scored(run, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "candidates.csv", tmp_path / "scored.tsv"
    file.write_text(
        "subject,weight,predicate,object\n"
        "e000,1,r000,e003\ne001,2,r001,nobody\ne000,3,r000,e003\ne004,4,r001,e009\n"
    )
    options = ["--triples", str(file), "--columns", "subject,predicate,object"]
    shown, _, code = lines_of(capsys, monkeypatch, "predict", str(run), *options)
    assert code == 0
    assert "unknown entity 'nobody'" in " ".join(shown.split())
    assert "3 of 4 triples scored" in shown
    assert "1 not scored" in shown
    text, err, code = lines_of(
        capsys, monkeypatch, "predict", str(run), *options, "--out", str(out)
    )
    assert code == 0
    assert "triple 2: unknown entity 'nobody'" in err
    assert "3 of 4 triples scored" in text
    table = load_table(out)
    assert table["tail"].tolist() == ["e003", "nobody", "e003", "e009"]
    assert [bool(cell) for cell in table["score"]] == [True, False, True, True]
    scored = kgtool.score_triples(run, [("e000", "r000", "e003")])
    assert float(table["score"][0]) == pytest.approx(scored["score"][0])
    for name in ("scored.nt", "scored.jsonl", "scored.parquet"):
        place = str(tmp_path / name)
        assert lines_of(capsys, monkeypatch, "predict", str(run), *options, "--out", place)[2] == 0
    statements = list(pyoxigraph.parse(path=tmp_path / "scored.nt"))
    assert not any("nobody" in str(statement) for statement in statements)
    _, err, code = lines_of(capsys, monkeypatch, "predict", str(run), *options, "--strict")
    assert code == 2
    assert "triple 2: unknown entity 'nobody'" in err
    file.write_text("nobody\tr000\te003\nnobody\tr000\te004\n")
    _, err, code = lines_of(
        capsys, monkeypatch, "predict", str(run), "--triples", str(file), "--format", "tsv"
    )
    assert code == 2
    assert "none of 2 triples can be scored" in err
    shown, _, code = lines_of(capsys, monkeypatch, "predict", str(run), "e000", "r000", "e003")
    assert code == 0
    assert f"{scored['score'][0]:.3f}" in shown


def test_a_batch_of_queries_answers_what_it_can(run, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "q.tsv", tmp_path / "answers.tsv"
    file.write_text("nobody\tr000\t?\n" + "e000\tr000\t?\n" * 2 + "e001\n")
    arguments = ["predict", str(run), "--queries", str(file), "--top", "2"]
    text, err, code = lines_of(capsys, monkeypatch, *arguments, "--out", str(out))
    assert code == 0
    assert "4 answers written" in text
    assert load_table(out)["question"].tolist() == ["1", "1", "2", "2"]
    assert "q.tsv, line 1: unknown entity 'nobody'" in err
    assert "q.tsv, line 4: 'e001' is not a query" in err
    assert "2 of 4 queries not answered" in err
    shown, _, _ = lines_of(capsys, monkeypatch, *arguments)
    assert " ".join(shown.split()).count("not answered:") == 2
    _, err, code = lines_of(capsys, monkeypatch, *arguments, "--strict")
    assert code == 2
    assert "line 1: unknown entity 'nobody'" in err


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("task", ["predict", "triple", "explain", "neighbours", "unknown"])
def test_labels_that_the_encoding_lacks_are_printed(trained, tmp_path, monkeypatch, encoding, task):
    names = tmp_path / "names.tsv"
    names.write_text(
        "".join(f"e{i:03}\t\u4e2d\u0444\u00e9 {i}\n" for i in range(24)), encoding="utf-8"
    )
    if task == "explain" and "one-path" in str(trained):
        pytest.skip("a one-path run has no paths to explain")
    first = "\u4e2d\u0444\u00e9 0"
    arguments = {
        "predict": ["predict", str(trained), first, "r000", "?"],
        "triple": ["predict", str(trained), first, "r000", "e003"],
        "explain": ["explain", str(trained), first, "r000", "e003"],
        "neighbours": ["predict", str(trained), first, "--task", "neighbours"],
        "unknown": ["predict", str(trained), "\u4e2d", "r000", "?"],
    }[task]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["kgtool", *arguments, "--labels", str(names)])
    with pytest.raises(SystemExit) as caught:
        kgtool.cli.main()
    for stream in streams:
        stream.flush()
    # click writes errors as UTF-8 where the locale is ASCII.
    out, err = (
        stream.buffer.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
        for stream in streams
    )
    assert (caught.value.code or 0) == (2 if task == "unknown" else 0)
    shown = ("\u4e2d", "\\u4e2d") if encoding in ("utf-8", "ascii") else ("\\u4e2d",)
    assert any(text in (err if task == "unknown" else out) for text in shown)


def test_paths_in_given_triples_are_scored_as_the_answers_are(run, tmp_path):
    asked = kgtool.open_predictor(run)
    answers = kgtool.predict(
        asked, [("e000", "r000/r001", "?"), ("e002", "^r001/r002", "?")], top=30, include_known=True
    )
    rows = list(answers[["head", "relation", "tail"]].itertuples(index=False, name=None))
    mixed = [*rows, ("e000", "r000", "e003"), ("e000", "r000/nothing", "e003")]
    found = kgtool.score_triples(asked, mixed)
    assert found["relation"].tolist()[:-1] == [row[1] for row in mixed[:-1]]
    assert found["score"].tolist()[: len(rows)] == pytest.approx(answers["score"].tolist())
    assert found["known"].tolist()[: len(rows)] == answers["known"].tolist()
    assert {"", "facts"} <= set(answers["known"])
    assert found["probability"][: len(rows)].isna().all()
    assert found["probability"][len(rows)] > 0
    assert found["reason"].tolist()[-2:] == ["", "unknown relation 'r000/nothing'"]
    with pytest.raises(DataError, match=r"unknown relation 'r000/nothing'"):
        kgtool.score_triples(asked, mixed, strict=True)

    file = tmp_path / "candidates.tsv"
    file.write_text("".join("\t".join(row) + "\n" for row in rows))
    out = tmp_path / "scored.tsv"
    for words in ((*rows[0],), ("--triples", file), ("--triples", file, "--out", out)):
        done = CliRunner().invoke(app, ["predict", str(run), *map(str, words)])
        assert done.exit_code == 0, done.output
    assert pd.read_csv(out, sep="\t")["score"].tolist() == pytest.approx(answers["score"].tolist())
    done = CliRunner().invoke(app, ["predict", str(run), *rows[0]])
    header = next(line.split() for line in done.output.splitlines() if "score" in line)
    assert header == ["score", "head", "relation", "tail", "note"]  # no P, which a path lacks
    assert "by known facts" in done.output
    done = CliRunner().invoke(app, ["explain", str(run), *rows[0]])
    assert isinstance(done.exception, KGToolError)
    if asked.passes is not None:
        assert "only the score of one relation has an explanation" in str(done.exception)


def test_a_predictor_is_asked_questions(run):
    asked = kgtool.open_predictor(run)
    with pytest.raises(DataError, match=r"query 1 is .*, not a Question\. Remedy: ask with labels"):
        asked.ask([("e000", "r000", "?")])  # type: ignore[list-item]


def next_command(output: str) -> list[str]:
    """The words of the last line, which is the next command."""
    last = output.splitlines()[-1]
    assert last.startswith("Next: kgtool "), output
    return shlex.split(last)[2:]


def test_each_command_names_the_next_one(run, tmp_path, monkeypatch):
    """From `evaluate` to `serve`: the line that a command prints is run as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["kgtool.cli.app"], "on_terminal", lambda: True)
    words = ["evaluate", str(run)]
    ran: list[str] = []
    while words[0] != "serve" and len(ran) < 12:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
        ran.append(words[0])
        words = next_command(done.output)
    assert words == ["serve", str(run)]
    explained = kgtool.open_predictor(run).passes is not None
    middle = ["explain", "explain"] if explained else []
    assert ran == ["evaluate", "predict", *middle, "complete", "export", "report"]
    assert Path("why.png").exists() == explained
    assert Path("new.tsv").exists()


@pytest.mark.parametrize("query", [("e000", "r000/r001", "?"), ("e000", "r000", "e003")])
def test_the_next_command_keeps_names_and_data(run, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "names.tsv"
    names.write_text("e000\tZero\n")
    data = kgtool.Run.open(run).config.data
    words = ["predict", str(run), "--labels", str(names), "--data", str(data), *query]
    assert "Next:" not in CliRunner().invoke(app, words).output  # piped
    monkeypatch.setattr(sys.modules["kgtool.cli.app"], "on_terminal", lambda: True)
    done = CliRunner().invoke(app, words)
    explained = kgtool.open_predictor(run).passes is not None and "/" not in query[1]
    follows = ["explain", str(run), *query] if explained else ["complete", str(run)]
    out = [] if explained else ["--out", "new.tsv"]
    options = ["--data", str(data), "--labels", str(names)]
    assert next_command(done.output) == [*follows, *out, *options]


def test_a_label_like_an_option_is_an_argument(monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["kgtool.cli.app"], "on_terminal", lambda: True)
    print_next("explain", "run", "--help", "r", "a b", data="kg", labels=None)
    assert capsys.readouterr().out == "Next: kgtool explain --data kg -- run --help r 'a b'\n"


def test_a_command_leaves_the_bar_to_the_library(run, tmp_path, monkeypatch, capfd):
    """No terminal is standard error here; the library alone decides whether somebody watches."""
    file = tmp_path / "candidates.tsv"
    file.write_text("e000\tr000\te003\ne000\tr001\te003\n")
    for watched in (True, False):
        monkeypatch.setattr("kgtool.ops.runtime.progress.is_watched", lambda w=watched: w)
        done = CliRunner().invoke(app, ["predict", str(run), "--triples", str(file)])
        assert done.exit_code == 0, done.output
        assert ("triples: 100%" in done.output + capfd.readouterr().err) == watched
