"""Trackers: TensorBoard, MLflow, and Weights & Biases show the course of a training.

A tracker starts or continues a tracked run, logs numbers by step, and ends it. A failure of a
tracker, such as a lost network, never ends a training: it gives one warning, and the training goes
on without this tracker.
"""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from kgtool.errors import ConfigError, KGToolError, nearest, quoted
from kgtool.runs.events import EventFile
from kgtool.storage.files import read_json, write_json

# The file in a run's folder with the id of the run at each tracker.
TRACKED = "tracking.json"
# The name of the project or experiment, unless the tracker's environment variable gives another.
PROJECT = "kgtool"


class Tracker(Protocol):
    """A service or file that shows the numbers of a run."""

    def start(self, settings: Mapping[str, Any], folder: Path, known: str | None, step: int) -> str:
        """Start a tracked run, or continue the one with the id `known`.

        Args:
            settings: the flat settings of the run, and its data.
            folder: the run folder; its name is the name of the run.
            known: the id that this method returned when the training began.
            step: the step from which the training goes on.

        Returns:
            The id of the tracked run.
        """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log finite numbers by name, as in `valid/mrr`."""

    def end(self, status: str, best: Mapping[str, float]) -> None:
        """End the tracked run.

        Args:
            status: `finished`, `stopped` or `failed`.
            best: the numbers of the best validation.
        """


class TensorBoard:
    """Event files in the run folder: `tensorboard --logdir runs` shows them."""

    def start(self, settings: Mapping[str, Any], folder: Path, known: str | None, step: int) -> str:
        """See `Tracker`; the settings become a text."""
        self._file = EventFile(folder)
        if known:
            self._file.restart(step + 1)
        else:
            self._file.text("settings", _markdown("setting", settings))
        return "events"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._file.scalars(step, metrics)

    def end(self, status: str, best: Mapping[str, float]) -> None:
        """See `Tracker`; curves of one point would hide the others, so this is a text."""
        self._file.text("result", _markdown("result", {"status": status, **best}))
        self._file.close()


def _markdown(heading: str, values: Mapping[str, Any]) -> str:
    """A table of names and values."""
    cells = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in values.items()]
    return "\n".join([f"| {heading} | value |", "| --- | --- |", *cells])


class MLflow:
    """A run of MLflow, in the store that MLFLOW_TRACKING_URI names; MLflow's own by default."""

    def __init__(self) -> None:
        # Without a network, MLflow would wait for many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._mlflow = importlib.import_module("mlflow")

    def start(self, settings: Mapping[str, Any], folder: Path, known: str | None, step: int) -> str:
        """See `Tracker`; MLflow cannot change a setting, so a changed one becomes a tag."""
        self._client = self._mlflow.MlflowClient()
        texts = {name: str(value)[:500] for name, value in settings.items()}
        if known:
            self._id = known
            logged = self._client.get_run(known).data.params
            self._client.update_run(known, status="RUNNING")
            for name, text in texts.items():
                if logged.get(name) != text:
                    self._client.set_tag(known, name, text)
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"kgtool.folder": str(folder.resolve())}
        self._id = str(self._client.create_run(place, run_name=folder.name, tags=tags).info.run_id)
        params = [self._mlflow.entities.Param(*pair) for pair in texts.items()]
        for i in range(0, len(params), 100):  # MLflow takes at most 100 at once
            self._client.log_batch(self._id, params=params[i : i + 100])
        return self._id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        now, metric = int(time.time() * 1000), self._mlflow.entities.Metric
        points = [metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=points)

    def end(self, status: str, best: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in best.items():
            self._client.log_metric(self._id, name, value)
        known = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(self._id, status=known[status])


class WeightsAndBiases:
    """A run of Weights & Biases; WANDB_MODE=offline writes it to the run folder alone."""

    def __init__(self) -> None:
        self._wandb = importlib.import_module("wandb")

    def start(self, settings: Mapping[str, Any], folder: Path, known: str | None, step: int) -> str:
        """See `Tracker`."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.name, dir=str(folder),
            id=known, resume="allow",
            config=dict(settings), allow_val_change=True,
            settings=self._wandb.Settings(console="off", init_timeout=30),
        )  # fmt: skip
        return str(self._run.id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(metrics), step=step)

    def end(self, status: str, best: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.summary.update(dict(best))
        self._run.finish(exit_code=0 if status == "finished" else 1)


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases,
}  # fmt: skip


def trackers_of(names: str | Iterable[str]) -> dict[str, Tracker]:
    """The trackers with these names.

    Raises:
        ConfigError: for an unknown name, or a package that is not installed.
    """
    trackers = {}
    for name in dict.fromkeys([names] if isinstance(names, str) else names):
        if name not in TRACKERS:
            like = nearest(name, TRACKERS)
            hint = f"did you mean {like}? " if like else ""
            raise ConfigError(
                f"unknown tracker {quoted(name)}. Remedy: {hint}use one of {', '.join(TRACKERS)}."
            )
        try:
            trackers[name] = TRACKERS[name]()
        except ImportError as error:
            raise ConfigError(
                f"tracking by {name} needs a package that cannot be imported ({error}). Remedy: "
                f"pip install 'kgtool[{name}]'"
            ) from error
    return trackers


class Tracking:
    """The trackers of a training; those that fail are left out after a warning.

    Args:
        trackers: by name, of `trackers_of`.
        folder: the run folder.
        warn: prints and logs a warning.
    """

    def __init__(
        self, trackers: Mapping[str, Tracker], folder: Path, warn: Callable[[str], None]
    ) -> None:
        self._trackers, self._folder, self._warn = dict(trackers), folder, warn

    def start(
        self, settings: Mapping[str, Any], step: int, history: Iterable[Mapping[str, Any]]
    ) -> None:
        """Start tracked runs with the history so far, or continue those of the training.

        Args:
            settings: the flat settings of the run, and its data.
            step: the step from which the training goes on.
            history: the rows of the validations so far.
        """
        if not self._trackers:
            return
        file = self._folder / TRACKED
        ids: dict[str, str] = {}
        with suppress(KGToolError):  # a missing file, or a damaged one: a new tracked run
            read = read_json(file)
            if isinstance(read, dict):
                ids = {key: known for key, known in read.items() if isinstance(known, str)}
        found = dict(ids)
        for name, tracker in [*self._trackers.items()]:
            known = ids.get(name)
            with self._guard(name):
                found[name] = tracker.start(settings, self._folder, known, step)
                for row in () if known else history:
                    tracker.log(int(row["step"]), metrics_of(row))
        if found != ids:
            try:
                write_json(file, found)
            except KGToolError as error:
                self._warn(f"a resumed run will start new tracked runs: {error}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log numbers by name; those that are not finite are left out."""
        numbers = _finite(metrics)
        for name, tracker in [*self._trackers.items()]:
            with self._guard(name):
                tracker.log(step, numbers)

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Log a row of the history."""
        self.log(int(row["step"]), metrics_of(row))

    def end(self, status: str, history: Iterable[Mapping[str, Any]]) -> None:
        """End the tracked runs.

        Args:
            status: `finished`, `stopped` or `failed`.
            history: the rows of the validations to choose the best from.
        """
        best = max(history, key=lambda row: row["valid_mrr"], default={})
        numbers = {
            f"best/{name.partition('/')[2]}": value
            for name, value in metrics_of(best).items()
            if name.startswith("valid/") or name == "train/epoch"
        }
        for name, tracker in [*self._trackers.items()]:
            with self._guard(name):
                tracker.end(status, numbers)

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        """Go on without the tracker if it fails in the `with` block, whatever its error."""
        try:
            yield
        except Exception as error:
            del self._trackers[name]
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            self._warn(
                f"tracking by {name} failed ({problem:.300}). Training goes on without it; "
                "history.tsv has the numbers, and --resume tries again."
            )


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row of the history by name, as in `valid/hits_at_10`.

    The names fit all trackers: MLflow refuses an `@`, and all group curves by the part before `/`.
    """
    numbers = {}
    for key, value in row.items():
        if key == "part":  # a name
            continue
        name = key.replace("@", "_at_")
        split, _, metric = name.partition("_")
        numbers[f"valid/{metric}" if split == "valid" else f"train/{name}"] = value
    numbers.pop("train/step", None)
    return _finite(numbers)


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
