"""Each command with a run that answers on any graph: it works, or says what the run lacks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import kgtool
from kgtool import cli
from kgtool.data.dataset import KGDataset
from tests.support.runs import ring, write_folder
from tests.support.services import found, served

SETTINGS = {
    "dim": 8,
    "encoder": {"kind": "relations", "layers": 1},
    "all_paths": {"layers": 2, "mlp_dim": 8, "batch_size": 8},
    "training": {"epochs": 1, "steps_per_epoch": 4, "validate_every": 1},
}
Call = Callable[..., tuple[int, str]]


def renamed() -> KGDataset:
    """The ring with other entities, and with other relations in another order."""
    made = ring()
    labels = kgtool.Vocabulary(tuple(f"x{i}" for i in range(24)), ("up", "on", "by"))
    return replace(made, vocabulary=labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets `ring` and `other`, and the runs `trained` and `pretrained` on `ring`."""
    made = tmp_path_factory.mktemp("conditional")
    write_folder(ring(), made / "ring")
    write_folder(renamed(), made / "other")
    kgtool.train(SETTINGS, made / "ring", made / "trained", progress=False)
    pretrain = {"graphs": {str(made / "other"): 1.0}, "synthetic": 0.5}
    config = {**SETTINGS, "pretrain": pretrain}
    kgtool.pretrain(config, made / "ring", made / "pretrained", progress=False)
    for name in ("trained", "pretrained"):
        kgtool.evaluate(made / name, progress=False)
    return made


@pytest.fixture(params=["trained", "pretrained"])
def run(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    return str(request.param)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kgtool", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code or 0
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        assert "Traceback" not in err + out
        return code, out if code == 0 else err

    return call


@pytest.mark.parametrize(
    "words",
    [
        "evaluate RUN --data other --overwrite",
        "evaluate RUN --task relations",
        "evaluate RUN --task triples",
        "evaluate RUN --task paths --data other",
        "evaluate RUN --candidates sampled:5",
        "evaluate RUN --sample-negatives --task triples --data other",
        "predict RUN e001 r001 ?",
        "predict RUN ? by x1 --data other",
        "predict RUN e001 ? e002",
        "predict RUN x1 up x2 --data other",
        "predict RUN x1 up/by ? --data other",
        "explain RUN e001 r001 e003",
        "explain RUN x1 up x3 --data other",
        "complete RUN --top 5",
        "report RUN --data other --out OUT/report.html",
        "compare trained pretrained",
        "data show other x1",
    ],
)
def test_a_command_answers(call: Call, run: str, tmp_path: Path, words: str) -> None:
    code, text = call(*words.replace("RUN", run).replace("OUT", str(tmp_path)).split())
    assert code == 0, text
    assert text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("export RUN --out OUT/export", "has no embeddings"),
        ("predict RUN e001 --task neighbours", "has no embeddings"),
        ("predict RUN x1 --task neighbours --data other", "has no embeddings"),
        ("evaluate RUN --task walks", "was not trained on walks"),
        ("predict RUN e001 --task next", "was not trained on walks"),
        ("predict RUN e001 up ?", "up"),
        ("predict RUN e001 up ? --data other", "e001"),
    ],
)
def test_a_command_says_what_the_run_lacks(
    call: Call, run: str, tmp_path: Path, words: str, problem: str
) -> None:
    code, text = call(*words.replace("RUN", run).replace("OUT", str(tmp_path)).split())
    assert code == 2, text
    assert problem in text
    assert "Remedy: " in text or "did you mean" in text or "nearest" in text, text
    assert not (tmp_path / "export").exists()


def test_figures_do_not_depend_on_labels(run: str) -> None:
    own, other = (kgtool.evaluate(run, data=data, progress=False) for data in ("ring", "other"))
    assert own.mrr == pytest.approx(other.mrr, abs=1e-5)


@pytest.mark.parametrize("data", [None, "other"])
def test_a_run_is_extended_by_relations(run: str, tmp_path: Path, data: str | None) -> None:
    e, r = ("e003", "r000") if data is None else ("x3", "up")
    new = tmp_path / "new.tsv"
    new.write_text(f"{e}\tlikes\tNina\nNina\tadores\t{e}\n{e}\t{r}\tNina\n")
    grown = kgtool.extend(run, new, tmp_path / "grown", data)
    extended = grown.read_info()["extended"]
    assert (extended["added"], extended["new relations"]) == (3, 2)
    before = kgtool.Run.open(run).dataset(data)
    assert grown.vocabulary.relations == (*before.vocabulary.relations, "adores", "likes")
    assert grown.dataset().num_relations == 5
    assert len(grown.dataset().train) == len(before.train) + 3
    again = kgtool.Run.open(tmp_path / "grown")
    answers = kgtool.predict(again, "Nina", "adores", None)
    assert len(answers)
    assert 0 < kgtool.evaluate(again, progress=False).mrr <= 1
    assert grown.weights_digest() == again.weights_digest()
    # The weights answer as they do on the grown data set without `extend`.
    scores = kgtool.score_triples(
        run, [(e, "likes", "x1" if data else "e001")], data=grown.dataset()
    )
    same = kgtool.score_triples(again, [(e, "likes", "x1" if data else "e001")])
    assert scores["score"].tolist() == pytest.approx(same["score"].tolist(), abs=1e-5)


def test_the_service_answers_on_another_graph(run: str) -> None:
    predictor = kgtool.open_predictor(run, "other")
    with served(predictor) as port:
        about = found(port, "/api/about")
        assert (about["relations"], about["explains"]) == (3, True)
        answers = found(port, "/api/answers", head="x1", relation="up")
        assert answers
        why = found(port, "/api/explanation", head="x1", relation="up", tail="x2")
        assert why
    with pytest.raises(kgtool.KGToolError, match="has no embeddings"):
        kgtool.neighbours(predictor, "x1")


def test_the_run_of_a_pretraining_says_where_it_learned(folder: Path) -> None:
    info = json.loads((folder / "pretrained" / "run.json").read_text())
    (source,) = info["sources"]
    assert source["name"] == str(folder / "other")
    assert "sources" not in json.loads((folder / "trained" / "run.json").read_text())
