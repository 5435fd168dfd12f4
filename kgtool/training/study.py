"""The study of a search over settings: its trials, in Optuna's SQLite storage.

Only this module uses Optuna (Akiba et al. 2019): the tree-structured Parzen estimator proposes
settings (Bergstra et al. 2011), successive halving prunes (Li et al. 2020), and PED-ANOVA gives the
importance of settings (Watanabe et al. 2023).
"""

from __future__ import annotations

import importlib
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgtool.config import differences
from kgtool.errors import ConfigError, KGToolError, RunError
from kgtool.training.space import Choice, Space

# A trial may be pruned after this many percent of its steps, and after 3 times as many and so on:
# it goes on if it is among the best third of the trials that came as far.
FIRST_RUNG, FACTOR = 10, 3
# The first trials are never pruned: a third of fewer is nobody.
UNPRUNED = 3
_NAME, _ABOUT, _SECONDS, _REASON = "kgtool", "kgtool", "seconds", "reason"


@dataclass(frozen=True)
class Trial:
    """A trial of a study.

    Attributes:
        number: from 0.
        state: `finished`, `pruned`, `invalid` (the settings do not fit each other, or training
            failed), or `unfinished`: in work, or interrupted.
        settings: the values by name.
        mrr: the best valid MRR, so far if the trial was not finished; None before a validation.
        seconds: the time of a trial that has ended, up to its last validation.
        reason: why a trial is invalid.
        reported: the percentages of the steps after which a valid MRR was reported.
    """

    number: int
    state: str
    settings: dict[str, Any]
    mrr: float | None
    seconds: float | None = None
    reason: str = ""
    reported: frozenset[int] = field(default=frozenset(), repr=False)


class Study:
    """The trials of a search, shared by the processes that work on it.

    Args:
        file: the SQLite file; it is created if it is missing.
        space: the settings with their values.
        seed: of the proposals. The proposal of a trial depends on it and on the trials before.
        about: what the study was begun with; texts and numbers by name.
        first: the settings of the first trial; others are drawn.

    Raises:
        ConfigError: if Optuna is not installed.
        RunError: if the file is damaged, or its study was begun with something else.
    """

    def __init__(
        self,
        file: Path,
        space: Space,
        *,
        seed: int,
        about: Mapping[str, Any],
        first: Mapping[str, Any],
    ) -> None:
        self._optuna, self._file, self._seed = optuna(), file, seed
        self._domains = {name: self._distribution(domain) for name, domain in space.items()}
        with self._guard():
            storage = self._optuna.storages.RDBStorage(
                "sqlite:///study",  # the name of the file may hold signs of an address
                engine_kwargs={"creator": self._connect},
            )
            self._study = self._optuna.create_study(
                storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True,
                pruner=self._optuna.pruners.SuccessiveHalvingPruner(FIRST_RUNG, FACTOR),
            )  # fmt: skip
            begun = self._study.user_attrs.get(_ABOUT)
            if begun is None:
                self._study.enqueue_trial(dict(first), skip_if_exists=True)
                self._study.set_user_attr(_ABOUT, dict(about))
            self._numbers = {trial.number: trial._trial_id for trial in self._frozen()}
        if begun is not None and (unequal := differences(begun, about)):
            raise RunError(
                f"{file.parent} was begun with other settings: {'; '.join(unequal)}. Remedy: use "
                "those, or another --out."
            )

    def _connect(self) -> sqlite3.Connection:
        """A connection that waits a minute for other processes."""
        return sqlite3.connect(self._file, 60, check_same_thread=False)

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        with self._guard():
            frozen = self._frozen()
        self._numbers = {trial.number: trial._trial_id for trial in frozen}
        return [self._trial(trial) for trial in frozen if trial.state.name != "WAITING"]

    def best(self) -> Trial | None:
        """The finished trial with the best valid MRR, the first of several; None without one."""
        finished = [trial for trial in self.trials() if trial.state == "finished"]
        return max(finished, key=lambda trial: trial.mrr or 0.0, default=None)

    def ask(self) -> Trial:
        """Begin a new trial; one process at a time."""
        number = len(self.trials())
        with self._guard():
            # Optuna takes 32 bits; the seed of a configuration has up to 63.
            seed = (self._seed * 1_000_003 + number) % 2**32
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
            asked = self._study.ask(fixed_distributions=self._domains)
        self._numbers[asked.number] = asked._trial_id
        return Trial(asked.number, "unfinished", dict(asked.params), None)

    def goes_on(self, number: int, percent: int, mrr: float) -> bool:
        """Report the valid MRR after a share of the steps; whether the trial goes on.

        Args:
            number: of the trial.
            percent: of its steps, in whole numbers.
            mrr: the best valid MRR so far.
        """
        with self._guard():
            trial = self._live(number)
            trial.report(mrr, percent)
            prune = trial.should_prune()
        return number < UNPRUNED or not prune

    def end(self, trial: Trial) -> None:
        """Record a trial that has ended: its state, valid MRR, seconds, and why it is invalid."""
        ends = self._optuna.trial.TrialState
        with self._guard():
            live = self._live(trial.number)
            live.set_user_attr(_SECONDS, trial.seconds)
            live.set_user_attr(_REASON, trial.reason)
            # An invalid trial counts as the worst: the sampler then avoids such settings.
            done = trial.state == "finished"
            self._study.tell(
                live, trial.mrr if done else None, state=ends.COMPLETE if done else ends.PRUNED
            )

    def importance(self) -> dict[str, float]:
        """The importance of settings for a good valid MRR, largest first; they add up to 1.

        It is empty before 4 finished trials, and without a setting that varies.
        """
        if sum(trial.state == "finished" for trial in self.trials()) < 4:
            return {}
        with self._guard():
            shares = self._optuna.importance.get_param_importances(self._study)
        ordered = sorted(shares.items(), key=lambda share: -share[1])
        return {name: float(share) for name, share in ordered if math.isfinite(share)}

    def _frozen(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))

    def _live(self, number: int) -> Any:
        """Optuna's handle of a trial that runs, also one that another process began."""
        return self._optuna.trial.Trial(self._study, self._numbers[number])

    def _trial(self, frozen: Any) -> Trial:
        reason = frozen.user_attrs.get(_REASON, "")
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "invalid"}
        state = "invalid" if reason else names.get(frozen.state.name, "unfinished")
        last = frozen.intermediate_values.get(frozen.last_step)
        mrr = frozen.value if state == "finished" else last
        return Trial(
            frozen.number, state, dict(frozen.params), mrr, frozen.user_attrs.get(_SECONDS),
            reason, frozenset(frozen.intermediate_values),
        )  # fmt: skip

    def _distribution(self, domain: Any) -> Any:
        kinds = self._optuna.distributions
        if isinstance(domain, Choice):
            return kinds.CategoricalDistribution(domain.values)
        kind = kinds.IntDistribution if domain.whole else kinds.FloatDistribution
        return kind(domain.low, domain.high, log=domain.log)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let Optuna print only warnings in the block, and turn its errors into ours.

        Raises:
            RunError: if the file is not readable as a study.
            KGToolError: if it cannot be written.
        """
        logs, exceptions = self._optuna.logging, self._optuna.exceptions
        verbosity = logs.get_verbosity()
        logs.set_verbosity(max(verbosity, logs.WARNING))
        try:
            yield
        except (sqlite3.Error, KeyError, exceptions.OptunaError, _sql_error()) as error:
            reason = str(getattr(error, "orig", None) or error.__cause__ or error)
            reason = f"{type(error).__name__}: {reason}".splitlines()[0]
            damaged = "malformed" in reason or "not a database" in reason
            kind, remedy = (
                (RunError, "restore the file, or choose another --out")
                if damaged
                else (KGToolError, "free space and check permissions; the same command goes on")
            )
            raise kind(f"cannot use {self._file} ({reason:.200}). Remedy: {remedy}.") from error
        finally:
            logs.set_verbosity(verbosity)


def optuna() -> Any:
    """The package Optuna.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        found = importlib.import_module("optuna")
        importlib.import_module("optuna.importance")
    except ImportError as error:
        raise ConfigError(
            f"kgtool tune needs a package that cannot be imported ({error}). Remedy: pip install "
            "'kgtool[tune]'"
        ) from error
    return found


def _sql_error() -> Any:
    return importlib.import_module("sqlalchemy.exc").SQLAlchemyError
