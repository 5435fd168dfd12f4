"""Search over settings: each trial is a training with settings that a study proposes.

A study is a folder:

study.sqlite      the trials, as Optuna stores them
trials/0007/      the run of a trial; only the best one keeps its weights
trials.tsv        a row per trial
importance.tsv    how much each setting matters
best.toml         the configuration of the best trial
tune.png          the course of the search, and the importance of settings

Several processes may work on one study at a time. A process holds the lock of its trial's file
while it trains; where nobody does, the trial was interrupted, and the next process continues it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd

from kgtool.config import Config, parse_config, short_value
from kgtool.data.dataset import KGDataset
from kgtool.display import html
from kgtool.errors import ConfigError, Interrupted, ScoreError, TrainingError
from kgtool.evaluation.analysis.results import LinkResult
from kgtool.ops import say
from kgtool.runs.run import Run, refuse_taken
from kgtool.storage.files import atomic_write, write_errors
from kgtool.training.space import Space, values_of, with_settings
from kgtool.training.study import Study, Trial, optuna
from kgtool.training.trainer import Pruned, train
from kgtool.training.tuning_plot import save_plot

STUDY, TRIALS, TABLE = "study.sqlite", "trials", "trials.tsv"
IMPORTANCE, BEST_CONFIG, PLOT = "importance.tsv", "best.toml", "tune.png"
# The number of trials where neither a number nor a time is given.
DEFAULT_TRIALS = 50
# Invalid trials in a row after which the space, not the trial, is at fault.
MOST_INVALID = 20


@dataclass(frozen=True, eq=False)
class Tuning:
    """The result of a search over settings.

    Attributes:
        path: the folder of the study.
        space: the settings with their values.
        trials: a row per trial: trial, state, valid_mrr, seconds, the settings, reason.
        importance: setting → share of the importance, largest first; empty for a short search.
        config: the configuration of the best trial; None before a trial is finished.
        run: the run of the best trial, which has its weights.
        done: whether the search has spent its trials or its time, and no other process is at work.
        test: the test result of the best run, if the search is done.
    """

    path: Path
    space: Space
    trials: pd.DataFrame
    importance: dict[str, float]
    config: Config | None = None
    run: Run | None = None
    done: bool = False
    test: LinkResult | None = field(default=None, repr=False)

    @property
    def best(self) -> pd.Series | None:
        """The row of the best trial."""
        finished = self.trials[self.trials["state"] == "finished"]
        return None if finished.empty else finished.loc[finished["valid_mrr"].idxmax()]

    def __repr__(self) -> str:
        best = self.best
        state = "no trial finished" if best is None else f"best valid MRR {best['valid_mrr']:.4f}"
        return f"Tuning({str(self.path)!r}: {len(self.trials)} trials, {state})"

    def _repr_html_(self) -> str:
        ranked = self.trials.sort_values("valid_mrr", ascending=False, kind="stable")
        return html(repr(self), ranked, self.importance)


def tune(
    settings: Mapping[str, Any],
    dataset: KGDataset,
    out: Path,
    space: Space,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
) -> Tuning:
    """Search for the settings with the best valid MRR; the same call continues a search.

    Ctrl-C and a spent time budget save the trial in work; the next call continues it exactly. The
    first trial has the settings of the configuration, as far as the space has them.

    Args:
        settings: the nested settings of the configuration, see
            `kgtool.training.space.base_settings`.
        dataset: the triples.
        out: the folder of the study: new, empty, or with a study of the same settings.
        space: the settings to choose, with their values.
        trials: the number of trials of the study, over all its processes and calls; without it and
            without `minutes`, `DEFAULT_TRIALS`. Invalid trials do not count.
        minutes: the time of this process.
        progress: show progress bars and a line per trial.

    Raises:
        ConfigError: if Optuna is not installed, or the settings of many trials in a row are
            invalid.
        DataError: when train or valid has no triples.
        RunError: if the folder has other files, or a study of other settings or data.
        KGToolError: when a file cannot be written.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP.
    """
    optuna()  # fail before anything is written
    deadline = None if minutes is None else monotonic() + 60 * minutes
    if trials is None and minutes is None:
        trials = DEFAULT_TRIALS
    search = _Search(settings, dataset, out, space, limit=trials, progress=progress)
    try:
        while deadline is None or monotonic() < deadline:
            with search.taken() as trial:
                if trial is None or not search.run(trial, deadline):
                    break
    finally:
        result = search.write(plot=True)
    best = result.best
    if best is None:
        return result
    run = Run.open(search.folder(int(best["trial"])))
    return replace(result, run=run, done=not search.others_work())


class _Search:
    """The work of one process on a study."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        dataset: KGDataset,
        out: Path,
        space: Space,
        *,
        limit: int | None,
        progress: bool,
    ) -> None:  # fmt: skip
        self.settings, self.dataset, self.out = settings, dataset, out
        self.space, self.limit, self.progress = space, limit, progress
        config = parse_config(dict(settings))
        if out.exists() and not out.is_dir():
            refuse_taken(out, "choose another --out")
        with write_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        about = dict(config.model_copy(update={"data": None}).settings())
        about = {name: value for name, value in about.items() if name not in space}
        about |= {f"tune.{name}": str(domain) for name, domain in space.items()}
        about["fingerprint of the data"] = dataset.fingerprint
        with self._alone():
            if not (out / STUDY).exists():
                refuse_taken(out, "choose another --out")
            self.study = Study(
                out / STUDY, space, seed=config.seed, about=about, first=values_of(config, space)
            )
            with write_errors(out):
                (out / TRIALS).mkdir(exist_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for the other processes: only this one changes the study in the block."""
        with _lock(self.out, wait=True):
            yield

    @contextmanager
    def taken(self) -> Iterator[Trial | None]:
        """Take a trial, an interrupted one first; None if no trial is left."""
        with ExitStack() as held:
            with self._alone():
                trial = self._interrupted(held) or self._new(held)
            yield trial

    def _interrupted(self, held: ExitStack) -> Trial | None:
        for trial in self.study.trials():
            if trial.state == "unfinished":
                with suppress(BlockingIOError):
                    held.enter_context(_lock(self._lock_of(trial)))
                    return trial
        return None

    def others_work(self) -> bool:
        """Whether another process trains a trial now."""
        with self._alone(), ExitStack() as held:
            for trial in self.study.trials():
                if trial.state == "unfinished":
                    try:
                        held.enter_context(_lock(self._lock_of(trial)))
                    except BlockingIOError:
                        return True
        return False

    def _new(self, held: ExitStack) -> Trial | None:
        known = self.study.trials()
        valid = [trial for trial in known if trial.state != "invalid"]
        if self.limit is not None and len(valid) >= self.limit:
            return None
        last = known[-MOST_INVALID:]
        if len(last) == MOST_INVALID and all(trial.state == "invalid" for trial in last):
            raise ConfigError(
                f"{self.out}: the settings of {MOST_INVALID} trials in a row are invalid, the last "
                f"ones because: {last[-1].reason}. Remedy: narrow [tune], and search into another "
                "--out"
            )
        trial = self.study.ask()
        held.enter_context(_lock(self._lock_of(trial)))
        return trial

    def run(self, trial: Trial, deadline: float | None) -> bool:
        """Train a trial and record how it ended; false if the time ended first."""
        self._say(f"Trial {trial.number}: {listed(trial.settings)}")
        watch, folder = _TrialWatch(self.study, trial, deadline), self.folder(trial.number)
        try:
            config = parse_config(with_settings(self.settings, trial.settings))
            run = train(
                config, self.dataset, folder,
                resume=folder.exists(), progress=self.progress, watch=watch,
            )  # fmt: skip
        except Pruned:
            self._end(trial, "pruned", Run.open(folder))
        except Interrupted:
            if not watch.is_over():
                raise
            return False
        except (ConfigError, ScoreError, TrainingError) as error:
            # A full disk, for example, is not the fault of the settings.
            if isinstance(error, TrainingError) and error.__cause__ is not None:
                raise
            self._end(trial, "invalid", reason=" ".join(str(error).split()))
        else:
            self._end(trial, "finished", run)
        return True

    def _end(self, trial: Trial, state: str, run: Run | None = None, reason: str = "") -> None:
        """Record the end of a trial, and delete weights that are not the best."""
        mrr = seconds = None
        if run is not None:
            mrr, seconds = run.best_validation()["valid_mrr"], run.history()[-1]["seconds"]
        with self._alone():
            self.study.end(replace(trial, state=state, mrr=mrr, seconds=seconds, reason=reason))
            best = self.study.best()
            for other in self.study.trials():
                if other.state != "unfinished" and (best is None or other.number != best.number):
                    _delete_weights(self.folder(other.number))
            with write_errors(self.out):
                self._lock_of(trial).unlink(missing_ok=True)
        result = self.write()
        line = f"Trial {trial.number}: {state}"
        row = result.trials.set_index("trial").loc[trial.number]
        if reason:
            line += f" ({reason})"
        elif pd.notna(row["valid_mrr"]):
            line += f", valid MRR {row['valid_mrr']:.4f}"
        if best is not None:
            line += f"; the best is {best.mrr:.4f} of trial {best.number}"
        self._say(line)

    def write(self, plot: bool = False) -> Tuning:
        """Write the tables, the best configuration and, if wanted, the plot."""
        with self._alone():
            trials, best = self.study.trials(), self.study.best()
            table, importance = self._table(trials), self.study.importance()
            config = None
            _write_table(table, self.out / TABLE)
            if importance:
                shares = pd.DataFrame(importance.items(), columns=["setting", "importance"])
                _write_table(shares, self.out / IMPORTANCE)
            if best is not None:
                config = parse_config(with_settings(self.settings, best.settings))
                note = f"# trial {best.number}: valid MRR {best.mrr:.4f}\n"
                with atomic_write(self.out / BEST_CONFIG) as file:
                    file.write(note + config.to_toml())
            if plot and trials:
                save_plot(table, importance, self.out / PLOT)
        return Tuning(self.out, self.space, table, importance, config)

    def _table(self, trials: list[Trial]) -> pd.DataFrame:
        rows = [
            {
                "trial": trial.number,
                "state": trial.state,
                "valid_mrr": trial.mrr,
                "seconds": trial.seconds,
                **{name: trial.settings.get(name) for name in self.space},
                "reason": trial.reason,
            }
            for trial in trials
        ]
        columns = ["trial", "state", "valid_mrr", "seconds", *self.space, "reason"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"valid_mrr": float, "seconds": float})

    def folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.out / TRIALS / f"{number:04}"

    def _lock_of(self, trial: Trial) -> Path:
        return self.out / TRIALS / f".{trial.number:04}.lock"

    def _say(self, line: str) -> None:
        if self.progress:
            say(line)


class _TrialWatch:
    """Reports the validations of a trial to its study, and ends it by the study or the time."""

    def __init__(self, study: Study, trial: Trial, deadline: float | None) -> None:
        self._study, self._number, self._deadline = study, trial.number, deadline
        self._reported = set(trial.reported)

    def is_over(self) -> bool:
        """Whether the time of the process has ended."""
        return self._deadline is not None and monotonic() >= self._deadline

    def goes_on(self, done: float, mrr: float) -> bool:
        """Whether the trial is not pruned; a resumed one is not reported twice."""
        percent = int(100 * done)
        if percent in self._reported:
            return True
        self._reported.add(percent)
        return self._study.goes_on(self._number, percent, mrr)


def listed(settings: Mapping[str, Any]) -> str:
    """Settings in a line, numbers with three digits."""
    return ", ".join(f"{name} = {short_value(value)}" for name, value in settings.items())


@contextmanager
def _lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Lock a file or folder for the block; the system releases it when the process ends.

    Raises:
        BlockingIOError: if another one holds the lock, unless `wait`.
    """
    with write_errors(path):
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _delete_weights(run: Path) -> None:
    """Delete the weights of a run, and what else only a run with weights needs."""
    with write_errors(run):
        for file in run.glob("*.safetensors"):
            file.unlink()


def _write_table(frame: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as file:
        frame.to_csv(file, sep="\t", index=False)
