"""`kgtool.tune`: trials, what stays of them, continued and shared searches, and its files."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kgtool.api.tune import tune
from kgtool.cli.render.console import Terminal
from kgtool.cli.render.tuning import tuning_table
from kgtool.config import load_config
from kgtool.errors import ConfigError, DataError, Interrupted, KGToolError, RunError, TrainingError
from kgtool.storage.checkpoint import load_tensors
from kgtool.training import trainer, tuning
from kgtool.training.space import Choice, Range, Space
from kgtool.training.study import Study
from kgtool.training.trainer import Pruned, train
from tests.support.runs import in_memory, ring, tiny_config

SPACE: dict[str, Any] = {
    "dim": [4, 8], "training.learning_rate": {"log": [1e-3, 1e-1]}, "encoder.layers": "default",
}  # fmt: skip
QUICK = tiny_config(epochs=2)


class Watch:
    """Ends a training after a number of steps or validations."""

    def __init__(self, steps: int = 99, validations: int = 99) -> None:
        self.steps, self.validations = steps, validations
        self.reports: list[tuple[float, float]] = []

    def is_over(self) -> bool:
        self.steps -= 1
        return self.steps <= 0

    def goes_on(self, done: float, mrr: float) -> bool:
        self.reports.append((done, mrr))
        return len(self.reports) < self.validations


@pytest.fixture
def _optuna() -> None:
    pytest.importorskip("optuna")


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes after this many steps, over all trainings."""
    left = iter([False] * (steps - 1) + [True])

    @contextmanager
    def signals():
        yield lambda: next(left, False)

    monkeypatch.setattr(trainer, "stop_signals", signals)


def weights(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("trials/*/best.safetensors"))


@pytest.mark.parametrize("watch", [Watch(steps=6), Watch(validations=2)])
def test_a_training_that_a_watch_ended_is_resumed_exactly(watch, tmp_path):
    whole = train(tiny_config(), ring(), tmp_path / "whole", progress=False, watch=Watch())
    with pytest.raises(Interrupted) as caught:
        train(tiny_config(), ring(), tmp_path / "run", progress=False, watch=watch)
    assert isinstance(caught.value, Pruned) == (watch.steps > 6)
    log = (tmp_path / "run" / "train.log").read_text()
    assert ("pruned after 50 % of the steps" in log) == (watch.steps > 6)
    assert "failed" not in log
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, resume=True)
    for name, tensor in load_tensors(whole.path / "best.safetensors")[0].items():
        assert tensor.equal(load_tensors(run.path / "best.safetensors")[0][name])


def test_a_watch_sees_the_best_valid_mrr_by_share_of_the_steps(tmp_path):
    watch = Watch()
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, watch=watch)
    best = pd.Series([row["valid_mrr"] for row in run.history()]).cummax().tolist()
    assert watch.reports == [(0.25, best[0]), (0.5, best[1]), (0.75, best[2])]


@pytest.mark.usefixtures("_optuna")
def test_a_search(tmp_path, capsys):
    out = tmp_path / "a ?#%25 study"  # the name of the SQLite file is no address
    result = tune(QUICK, ring(), out, space=SPACE, trials=5, progress=False)
    frame = result.trials
    assert frame["trial"].tolist() == [0, 1, 2, 3, 4]
    assert set(frame["state"]) <= {"finished", "pruned"}
    first = frame.iloc[0]
    assert (first["dim"], first["training.learning_rate"], first["encoder.layers"]) == (8, 5e-3, 1)
    best = result.best
    assert best is not None
    assert best["valid_mrr"] == frame.loc[frame["state"] == "finished", "valid_mrr"].max()
    assert weights(out) == [f"{best['trial']:04}"]  # the others have lost theirs
    assert len(list(out.glob("trials/*/history.tsv"))) == 5
    assert not list(out.glob("trials/.*"))
    assert result.run is not None
    assert result.run.path == out / "trials" / f"{best['trial']:04}"
    assert result.run.best_validation()["valid_mrr"] == best["valid_mrr"]
    assert result.config == load_config(out / "best.toml") == result.run.config
    assert result.done
    assert result.test is not None
    assert [path.parent.name for path in out.glob("trials/*/metrics.*")] == weights(out)
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "trials.tsv", sep="\t", keep_default_na=False, na_values={"seconds": ""}),
        frame, check_dtype=False,
    )  # fmt: skip
    assert (out / "tune.png").read_bytes()[:4] == b"\x89PNG"
    assert "5 trials" in repr(result)
    assert "<td" in result._repr_html_()
    Terminal().print(tuning_table(result))
    printed = capsys.readouterr().out
    assert "training.learning_rate" in printed
    assert f"trial {best['trial']}" in printed
    # An equal search has equal trials; more trials continue it.
    again = tune(QUICK, ring(), tmp_path / "again", space=SPACE, trials=3, progress=False)
    again = tune(QUICK, ring(), tmp_path / "again", space=SPACE, trials=5, progress=False)
    columns = [name for name in frame if name != "seconds"]
    pd.testing.assert_frame_equal(again.trials[columns], frame[columns])
    if result.importance:
        assert sum(result.importance.values()) == pytest.approx(1)
        assert (out / "importance.tsv").exists()


@pytest.mark.usefixtures("_optuna")
def test_a_stopped_search_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = tune(QUICK, ring(), tmp_path / "whole", space=SPACE, trials=2, progress=False)
    out = tmp_path / "out"
    stop_after(10, monkeypatch)  # in the second trial: a trial has 8 steps
    with pytest.raises(Interrupted):
        tune(QUICK, ring(), out, space=SPACE, trials=2, progress=False)
    stopped = pd.read_csv(out / "trials.tsv", sep="\t")
    assert stopped["state"].tolist() == ["finished", "unfinished"]
    assert (out / "trials" / "0001" / "last.safetensors").exists()
    assert (out / "tune.png").exists()
    result = tune(QUICK, ring(), out, space=SPACE, trials=2, progress=False)
    log = (out / "trials" / "0001" / "train.log").read_text()
    assert "resumed at step 2" in log
    columns = [name for name in whole.trials if name != "seconds"]
    pd.testing.assert_frame_equal(result.trials[columns], whole.trials[columns])


@pytest.mark.usefixtures("_optuna")
def test_a_spent_time_budget_saves_the_trial_in_work(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(tuning, "monotonic", lambda: float(next(clock)))
    result = tune(QUICK, ring(), tmp_path, space=SPACE, minutes=15 / 60, progress=False)
    assert result.trials["state"].tolist() == ["finished", "unfinished"]
    assert result.done
    assert result.test is not None
    monkeypatch.undo()
    result = tune(QUICK, ring(), tmp_path, space=SPACE, trials=2, progress=False)
    assert result.trials["state"].tolist() == ["finished"] * 2


@pytest.mark.usefixtures("_optuna")
def test_processes_share_the_trials(tmp_path):
    tune(QUICK, ring(), tmp_path, space=SPACE, trials=1, progress=False)
    search = tuning._Search(
        QUICK.model_dump(exclude_none=True), ring(), tmp_path,
        {
            "dim": Choice((4, 8)),
            "training.learning_rate": Range(1e-3, 1e-1, True, False),
            "encoder.layers": Range(0, 2, False, True),
        },
        limit=3, progress=False,
    )  # fmt: skip
    with search.taken() as trial:  # what another process does
        assert trial is not None
        assert trial.number == 1
        result = tune(QUICK, ring(), tmp_path, space=SPACE, trials=3, progress=False)
        assert result.trials["state"].tolist() == ["finished", "unfinished", "finished"]
        assert not result.done
        assert result.test is None  # the last process scores it
    result = tune(QUICK, ring(), tmp_path, space=SPACE, trials=3, progress=False)
    assert result.trials["state"].tolist() == ["finished"] * 3
    assert result.test is not None


@pytest.mark.usefixtures("_optuna")
def test_the_worse_trials_are_pruned_at_rungs(tmp_path):
    space: Space = {"dim": Choice((4, 8))}
    study = Study(tmp_path / "study.sqlite", space, seed=1, about={}, first={"dim": 4})
    reports = [(0.5, True), (0.1, True), (0.4, True), (0.3, False), (0.6, True)]
    for number, (mrr, goes_on) in enumerate(reports):
        trial = study.ask()
        assert trial.number == number
        assert study.goes_on(number, 5, 0.0)  # before the first rung
        assert study.goes_on(number, 12, mrr) == goes_on, number
        assert study.trials()[number].mrr == mrr
    assert study.trials()[0].settings == {"dim": 4}
    assert study.trials()[4].reported == {5, 12}
    assert study.best() is None
    assert study.importance() == {}


@pytest.mark.usefixtures("_optuna")
def test_settings_that_do_not_fit_are_invalid_trials(tmp_path, monkeypatch):
    config = tiny_config(epochs=1, dim=8, encoder={"num_blocks": 2})
    result = tune(
        config, ring(), tmp_path / "some", space={"encoder.num_blocks": [2, 3]}, trials=2,
        progress=False,
    )  # fmt: skip
    counts = result.trials["state"].value_counts()
    assert counts["finished"] == 2  # invalid ones do not count
    bad = result.trials[result.trials["state"] == "invalid"]
    assert bad["reason"].str.contains("does not divide dim = 8").all()
    with pytest.raises(ConfigError, match=r"20 trials in a row are invalid.*does not divide"):
        tune(config, ring(), tmp_path / "all", space={"encoder.num_blocks": [3, 5]}, progress=False)

    def fails(*_: Any, **__: Any) -> None:
        if full:
            raise TrainingError("cannot write") from KGToolError("no room")
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(tuning, "train", fails)
    full = False
    with pytest.raises(ConfigError, match="the loss is nan"):
        tune(QUICK, ring(), tmp_path / "nan", space=SPACE, progress=False)
    full = True
    with pytest.raises(TrainingError, match="cannot write"):
        tune(QUICK, ring(), tmp_path / "full", space=SPACE, progress=False)


@pytest.mark.usefixtures("_optuna")
def test_another_search_does_not_continue_a_study(tmp_path):
    out = tmp_path / "out"
    tune(QUICK, ring(), out, space=SPACE, trials=1, progress=False)
    other = {**SPACE, "dim": [4, 16]}
    with pytest.raises(RunError, match=r"tune\.dim is one of 4, 8 there and one of 4, 16 here"):
        tune(QUICK, ring(), out, space=other, progress=False)
    with pytest.raises(RunError, match=r"training\.epochs is 2 there and 3 here"):
        tune(tiny_config(epochs=3), ring(), out, space=SPACE, progress=False)
    data = in_memory([(0, 0, 1)], [(0, 0, 1)], [(0, 0, 1)], 2)
    with pytest.raises(RunError, match="fingerprint of the data"):
        tune(QUICK, data, out, space=SPACE, progress=False)
    (out / "study.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"cannot use .*study\.sqlite \(.*restore the file"):
        tune(QUICK, ring(), out, space=SPACE, progress=False)


@pytest.mark.usefixtures("_optuna")
def test_folders_and_data_that_cannot_be_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(RunError, match="exists already"):
            tune(QUICK, ring(), place, space=SPACE, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    lacking = in_memory([(0, 0, 1)], [(0, 0, 1)], [], 2)
    with pytest.raises(DataError, match="test holds no triples"):
        tune(QUICK, lacking, tmp_path / "out", space=SPACE)


def test_without_optuna_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'kgtool\[tune\]'"):
        tune(QUICK, ring(), tmp_path / "out", space=SPACE)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_optuna")
def test_optuna_keeps_its_verbosity(tmp_path):
    logging = importlib.import_module("optuna").logging
    before = logging.get_verbosity()
    Study(tmp_path / "study.sqlite", {"dim": Choice((4, 8))}, seed=1, about={}, first={})
    assert logging.get_verbosity() == before
