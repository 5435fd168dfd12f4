"""Trackers: event files that TensorBoard reads, MLflow, Weights & Biases, and their failures."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from kgtool.api.train import train as train_by_name
from kgtool.errors import ConfigError, Interrupted
from kgtool.runs import tracking
from kgtool.runs.events import EventFile
from kgtool.runs.run import BEST, LAST, Run
from kgtool.runs.tracking import TRACKED, TRACKERS, Tracking, metrics_of, trackers_of
from kgtool.storage.checkpoint import load_tensors
from kgtool.training import trainer
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.support.runs import ring, tiny_config

Points = dict[str, list[tuple[int, Any]]]


class Recorder:
    """A tracker that keeps what it gets, and may fail."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def _called(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name == self.fails:
            raise OSError("no route to\nhost")

    def start(self, settings: Mapping[str, Any], folder: Path, known: str | None, step: int) -> str:
        self._called("start", dict(settings), folder, known, step)
        return known or "id-1"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._called("log", step, dict(metrics))

    def end(self, status: str, best: Mapping[str, float]) -> None:
        self._called("end", status, dict(best))

    def logged(self, name: str) -> list[tuple[int, float]]:
        """The points of a curve."""
        logs = [call[1:] for call in self.calls if call[0] == "log"]
        return [(step, metrics[name]) for step, metrics in logs if name in metrics]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    """Makes the tracker `tensorboard` a recorder."""

    def make(fails: str = "") -> Recorder:
        made = Recorder(fails)
        monkeypatch.setitem(TRACKERS, "tensorboard", lambda: made)
        return made

    return make


def after(number: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Let training end by an error in the step with this number, from 1."""
    steps, step = itertools.count(1), Updater.make_step

    def stop(self: Any, rows: Any) -> Any:
        if next(steps) == number:
            raise error
        return step(self, rows)

    monkeypatch.setattr(Updater, "make_step", stop)


def points_of(folder: Path) -> Points:
    """The curves that TensorBoard reads from the event files of a folder."""
    accumulator = importlib.import_module(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_a_tracker_gets_the_settings_each_step_each_validation_and_the_end(tmp_path, recorder):
    made = recorder()
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    (start, settings, folder, known, step), *_, (end, status, best) = made.calls
    assert (start, folder, known, step) == ("start", tmp_path / "run", None, 0)
    assert settings["training.epochs"] == 4
    assert settings["dim"] == 8
    assert settings["data_fingerprint"] == ring().fingerprint
    assert [step for step, _ in made.logged("train/step_loss")] == list(range(1, 17))
    history = run.history()
    for name, key in (
        ("train/loss", "loss"), ("train/learning_rate", "learning_rate"),
        ("train/seconds", "seconds"), ("valid/mrr", "valid_mrr"),
        ("valid/hits_at_10", "valid_hits@10"),
    ):  # fmt: skip
        wanted = [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in history]
        assert made.logged(name) == wanted
    top = max(history, key=lambda row: row["valid_mrr"])
    assert (end, status) == ("end", "finished")
    assert best["best/mrr"] == pytest.approx(top["valid_mrr"])
    assert best["best/epoch"] == top["epoch"]
    assert json.loads((tmp_path / "run" / TRACKED).read_text()) == {"tensorboard": "id-1"}


def test_the_mean_loss_of_an_epoch_without_validation_is_logged_too(tmp_path, recorder):
    made = recorder()
    train(tiny_config(validate_every=4), ring(), tmp_path / "run", progress=False,
          track=["tensorboard"])  # fmt: skip
    assert [step for step, _ in made.logged("train/loss")] == [4, 8, 12, 16]
    assert [step for step, _ in made.logged("valid/mrr")] == [16]


def test_long_epochs_log_some_steps_only(tmp_path, recorder, monkeypatch):
    made = recorder()
    assert trainer.LOGGED > 1
    monkeypatch.setattr(trainer, "LOGGED", 4 / 3)  # an epoch has four steps
    train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert [step for step, _ in made.logged("train/step_loss")] == [3, 6, 9, 12, 15]


def test_tracking_changes_no_bit_of_the_weights(tmp_path):
    plain = train(tiny_config(), ring(), tmp_path / "plain", progress=False)
    tracked = train(
        tiny_config(), ring(), tmp_path / "tracked", progress=False, track="tensorboard"
    )
    for name in (BEST, LAST):
        one, two = (load_tensors(run.path / name)[0] for run in (plain, tracked))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_resumed_run_continues_the_same_tracked_run(tmp_path, recorder, monkeypatch):
    made, config = recorder(), tiny_config()
    with monkeypatch.context() as patch:
        after(7, patch, Interrupted)
        with pytest.raises(Interrupted):
            train(config, ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert made.calls[-1][:2] == ("end", "stopped")
    made.calls.clear()
    train(config, ring(), tmp_path / "run", progress=False, track="tensorboard", resume=True)
    assert made.calls[0][3:] == ("id-1", 4), "the last checkpoint is that of the first epoch"
    assert [step for step, _ in made.logged("valid/mrr")] == [8, 12, 16]
    assert made.calls[-1][:2] == ("end", "finished")


def test_a_run_that_is_tracked_late_gets_its_history(tmp_path, recorder):
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False)
    made = recorder()
    train(tiny_config(), ring(), run.path, progress=False, track="tensorboard", resume=True)
    assert [step for step, _ in made.logged("valid/mrr")] == [4, 8, 12, 16]
    assert [call[0] for call in made.calls] == ["start", *["log"] * 4, "end"]


def test_a_training_that_fails_ends_its_tracked_run_as_failed(tmp_path, recorder, monkeypatch):
    made = recorder()
    after(3, monkeypatch, MemoryError)
    with pytest.raises(MemoryError):
        train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert made.calls[-1] == ("end", "failed", {})


@pytest.mark.parametrize("fails", ["start", "log", "end"])
def test_a_tracker_that_fails_gives_one_warning_and_training_goes_on(
    tmp_path, recorder, capsys, fails
):
    made = recorder(fails)
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert len(run.history()) == 4
    assert [call[0] for call in made.calls].count(fails) == 1
    assert made.calls[-1][0] == fails, "a tracker that failed is not called again"
    printed = capsys.readouterr().err
    assert printed.count("tracking by tensorboard failed (OSError: no route to host)") == 1
    assert printed.count("\n") == 1
    assert "tracking by tensorboard failed" in (run.path / "train.log").read_text()


def test_one_tracker_fails_and_the_other_goes_on(tmp_path, recorder, monkeypatch, capsys):
    broken, sound = recorder("log"), Recorder()
    monkeypatch.setitem(TRACKERS, "mlflow", lambda: sound)
    train(tiny_config(), ring(), tmp_path / "run", progress=False,
          track=["tensorboard", "mlflow", "mlflow"])  # fmt: skip
    assert len(sound.logged("valid/mrr")) == 4
    assert broken.logged("valid/mrr") == []
    assert capsys.readouterr().err.count("failed") == 1


def test_a_damaged_file_of_ids_starts_a_new_tracked_run(tmp_path, recorder):
    made = recorder()
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    for text in ("[", "[1]", '{"tensorboard": 1}'):
        (run.path / TRACKED).write_text(text)
        made.calls.clear()
        train(tiny_config(), ring(), run.path, progress=False, track="tensorboard", resume=True)
        assert made.calls[0][3] is None
        assert json.loads((run.path / TRACKED).read_text()) == {"tensorboard": "id-1"}


@pytest.mark.parametrize(
    ("track", "problem"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'. Remedy: did you mean tensorboard? use one "
                       "of tensorboard, mlflow, wandb."),
        (["mlflow"], "Remedy: pip install 'kgtool[mlflow]'"),
        (["tensorboard", "wandb"], "Remedy: pip install 'kgtool[wandb]'"),
    ],
)  # fmt: skip
def test_what_cannot_track_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, track, problem
):
    for package in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)  # an import then fails
    for begin in (train, train_by_name):
        with pytest.raises(ConfigError) as caught:
            begin(tiny_config(), ring(), tmp_path / "run", track=track)
        assert problem in str(caught.value)
        assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_not_finite_are_left_out():
    row = {"epoch": 0, "step": 3, "loss": float("nan"), "valid_mrr": 0.5, "valid_hits@1": 0.25}
    wanted = {"train/epoch": 0, "valid/mrr": 0.5, "valid/hits_at_1": 0.25}
    assert metrics_of(row) == wanted
    made = Recorder()
    follow = Tracking({"x": made}, Path(), print)
    follow.log(3, {"a": float("inf"), "b": 1.0})
    assert made.calls == [("log", 3, {"b": 1.0})]


# TensorBoard


def test_tensorboard_reads_what_training_wrote(tmp_path):
    pytest.importorskip("tensorboard")
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    curves = points_of(run.path)
    history = run.history()
    assert curves["valid/mrr"] == [
        (row["step"], pytest.approx(row["valid_mrr"], rel=1e-5)) for row in history
    ]
    assert [step for step, _ in curves["train/step_loss"]] == list(range(1, 17))
    assert {name.partition("/")[0] for name in curves} == {"train", "valid"}
    (path,) = run.path.glob("events.out.tfevents.*")
    assert b"| status | finished |" in path.read_bytes()
    assert (
        f"| best/mrr | {max(row['valid_mrr'] for row in history)} |".encode() in path.read_bytes()
    )


def test_tensorboard_drops_steps_that_a_resumed_run_does_again(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    config = tiny_config()
    with monkeypatch.context() as patch:
        after(7, patch, MemoryError)
        with pytest.raises(MemoryError):
            train(config, ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert [step for step, _ in points_of(tmp_path / "run")["train/step_loss"]] == [*range(1, 7)]
    train(config, ring(), tmp_path / "run", progress=False, track="tensorboard", resume=True)
    resumed = points_of(tmp_path / "run")
    assert [step for step, _ in resumed["train/step_loss"]] == [*range(1, 17)]
    whole = train(config, ring(), tmp_path / "whole", progress=False, track="tensorboard")
    curves = points_of(whole.path)
    for name in ("train/step_loss", "train/loss", "valid/mrr"):
        assert resumed[name] == curves[name]


def test_an_event_file_equals_tensorboards_own(tmp_path):
    """The same records, but for the times, read by protobuf, with checksums."""
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    file = EventFile(tmp_path)
    file.scalars(2**40, {"a/b": 0.1, "c": -3.5})
    file.text("settings", "| a | b |\n" * 40)
    file.restart(7)
    file.close()
    (path,) = tmp_path.iterdir()
    version, scalars, text, restart = loading.LegacyEventFileLoader(str(path)).Load()
    assert version.file_version == "brain.Event:2"
    assert scalars.step == 2**40
    assert [(value.tag, value.simple_value) for value in scalars.summary.value] == [
        ("a/b", pytest.approx(0.1)), ("c", -3.5),
    ]  # fmt: skip
    (value,) = text.summary.value
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val[0].decode() == "| a | b |\n" * 40
    assert (restart.step, restart.session_log.status) == (7, restart.session_log.START)
    assert abs(version.wall_time - path.stat().st_mtime) < 60


def test_a_full_disk_ends_tracking_alone(tmp_path, monkeypatch, capsys):
    records, write = itertools.count(1), EventFile._write

    def full(self: EventFile, record: bytes) -> None:
        if next(records) == 6:
            raise OSError(28, "No space left on device")
        write(self, record)

    monkeypatch.setattr(EventFile, "_write", full)
    run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="tensorboard")
    assert len(run.history()) == 4
    assert capsys.readouterr().err.count("No space left on device") == 1


@contextmanager
def _any_warning() -> Iterator[None]:
    """Other packages may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# MLflow and Weights & Biases: stand-ins that have the calls the adapters make, and, where they are
# installed, the packages themselves.


class Client:
    """What the adapter calls of `mlflow.MlflowClient`, in memory."""

    runs: dict[str, dict[str, Any]]

    def get_experiment_by_name(self, name: str) -> Any:
        known = any(run["experiment"] == name for run in self.runs.values())
        return types.SimpleNamespace(experiment_id=name) if known else None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        key = f"r{len(self.runs)}"
        self.runs[key] = {
            "experiment": experiment, "name": run_name, "tags": dict(tags), "params": {},
            "metrics": [], "status": "RUNNING",
        }  # fmt: skip
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=key))

    def get_run(self, key: str) -> Any:
        return types.SimpleNamespace(data=types.SimpleNamespace(params=self.runs[key]["params"]))

    def update_run(self, key: str, status: str) -> None:
        self.runs[key]["status"] = status

    def set_tag(self, key: str, name: str, value: str) -> None:
        self.runs[key]["tags"][name] = value

    def log_batch(self, key: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        for name, value in params:
            assert name not in self.runs[key]["params"], "MLflow refuses to change a parameter"
            self.runs[key]["params"][name] = value
        self.runs[key]["metrics"] += [(name, value, step) for name, value, _, step in metrics]

    def log_metric(self, key: str, name: str, value: float) -> None:
        self.runs[key]["metrics"].append((name, value, 0))

    def set_terminated(self, key: str, status: str) -> None:
        self.runs[key]["status"] = status


def test_mlflow_gets_one_run_that_a_resumed_training_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(Client, "runs", {}, raising=False)
    entities = types.SimpleNamespace(Param=lambda *pair: pair, Metric=lambda *point: point)
    stand_in = types.SimpleNamespace(MlflowClient=Client, entities=entities)
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "kinship")
    train(tiny_config(), ring(), tmp_path / "mine", progress=False, track="mlflow")
    longer = tiny_config(epochs=5)
    train(longer, ring(), tmp_path / "mine", progress=False, track="mlflow", resume=True)
    ((_, run),) = Client.runs.items()
    assert (run["experiment"], run["name"], run["status"]) == ("kinship", "mine", "FINISHED")
    assert run["params"]["training.epochs"] == "4"
    assert run["tags"]["training.epochs"] == "5", "a parameter cannot change: a tag shows it"
    assert set(run["tags"]) == {"training.epochs", "kgtool.folder"}
    assert run["params"]["data_fingerprint"] == ring().fingerprint
    assert [step for name, _, step in run["metrics"] if name == "valid/mrr"] == [4, 8, 12, 16, 20]
    assert any(name == "best/mrr" for name, _, _ in run["metrics"])


def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    with _any_warning():
        train(tiny_config(), ring(), tmp_path / "mine", progress=False, track="mlflow")
        longer = tiny_config(epochs=5)
        train(longer, ring(), tmp_path / "mine", progress=False, track="mlflow", resume=True)
        client = mlflow.MlflowClient()
        place = client.get_experiment_by_name("kgtool").experiment_id
        (run,) = client.search_runs([place])
        curve = client.get_metric_history(run.info.run_id, "valid/mrr")
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["training.epochs"] == "4"
    assert run.data.tags["training.epochs"] == "5"
    rows = Run.open(tmp_path / "mine").history()
    assert [(point.step, point.value) for point in curve] == [
        (row["step"], pytest.approx(row["valid_mrr"])) for row in rows
    ]


def test_wandb_gets_one_run_that_a_resumed_training_continues(tmp_path, monkeypatch):
    begun: list[dict[str, Any]] = []
    logs: list[tuple[int, dict[str, float]]] = []
    ended: list[int] = []

    class Started:
        id = "abc"
        summary: ClassVar[dict[str, float]] = {}

        def log(self, metrics: dict[str, float], step: int) -> None:
            logs.append((step, metrics))

        def finish(self, exit_code: int) -> None:
            ended.append(exit_code)

    def init(**options: Any) -> Started:
        begun.append(options)
        return Started()

    stand_in = types.SimpleNamespace(init=init, Settings=lambda **options: options)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    train(tiny_config(), ring(), tmp_path / "run", progress=False, track="wandb")
    train(tiny_config(epochs=5), ring(), tmp_path / "run", progress=False, track="wandb",
          resume=True)  # fmt: skip
    first, second = begun
    assert (first["id"], second["id"]) == (None, "abc")
    assert (first["project"], first["name"]) == ("mine", "run")
    assert (first["config"]["training.epochs"], second["config"]["training.epochs"]) == (4, 5)
    assert [step for step, metrics in logs if "valid/mrr" in metrics] == [4, 8, 12, 16, 20]
    assert [step for step, _ in logs] == sorted(step for step, _ in logs), "steps never go back"
    assert ended == [0, 0]
    assert "best/mrr" in Started.summary


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with _any_warning():
        run = train(tiny_config(), ring(), tmp_path / "run", progress=False, track="wandb")
        train(tiny_config(), ring(), run.path, progress=False, track="wandb", resume=True)
    name = json.loads((run.path / TRACKED).read_text())["wandb"]
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{name}.wandb"] * 2
    assert b"valid/mrr" in files[0].read_bytes()
    assert "failed" not in (run.path / "train.log").read_text()


def test_every_tracker_has_a_package_to_install():
    """`pip install kgtool[NAME]` is the remedy of a missing package."""
    assert set(tracking.TRACKERS) == {"tensorboard", "mlflow", "wandb"}
    assert trackers_of(()) == {}
