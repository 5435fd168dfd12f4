"""Training: queries in, steps, validation, checkpoints; stops and goes on without loss."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from tqdm.auto import tqdm

from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.distributed import process_group
from kgtool.errors import ConfigError, Interrupted, KGToolError, RunError, TrainingError, harmless
from kgtool.evaluation.evaluator import Evaluation, evaluate_model
from kgtool.ops import hold_threads, keep_large_blocks
from kgtool.runs.log import log_to
from kgtool.runs.run import (
    BEGINNING,
    BEST,
    HISTORY,
    LAST,
    LOG,
    OWNERS,
    PREVIOUS,
    Run,
    has_checkpoint,
    is_hardly_begun,
    reopen,
)
from kgtool.storage.checkpoint import fault, load_either, load_tensors, save_tensors
from kgtool.storage.files import alone_in, atomic_write, remove_leftovers
from kgtool.training.optimizer import learning_rate
from kgtool.training.signals import stop_signals
from kgtool.training.step import Updater
from kgtool.training.warm_start import carry, check_sizes

# Seconds of training that a fault costs at most; saved also at the end of each epoch.
SAVE_AFTER = 600.0

Read = TypeVar("Read")


def train(
    config: Config,
    dataset: KGDataset,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    init_from: Run | str | Path | None = None,
) -> Run:
    """Train a model and leave a run folder.

    Stopped by Ctrl-C, SIGTERM or the end of its terminal, it finishes the step, saves, and stops;
    killed, it has what was saved last, ten minutes or an epoch before. Resumed, it continues
    exactly: the same numbers as a run that was never stopped.

    On a CPU, one seed gives one result, bit for bit, in any process, on the same number of threads,
    the same kind of CPU and the same versions of torch and numba. Other threads or another CPU add
    numbers up in another order, and a GPU in none that is fixed: there, results may differ in the
    last bits, which training amplifies.

    Args:
        config: what to train and how.
        dataset: the triples; train makes the messages and the loss, valid selects the model.
        out: the run folder, which must not exist or be empty unless `resume`.
        resume: go on from the last checkpoint of `out`, or from the one before it where that is
            damaged; `config` must be the run's own.
        progress: show a progress bar.
        init_from: a run with the initial weights, in place of random ones, matched by label: see
            `kgtool.training.warm_start`. It is validated before the first step, as epoch 0, so that
            the best weights may be the initial ones. A resumed run does not need it again.

    Returns:
        The run, whose weights are those of the best validation.

    Raises:
        RunError: when the folder is taken or in use, there is nothing to resume, what there is is
            damaged, or the initial weights do not fit.
        KGToolError: when the folder cannot be written to; told before the first step.
        TrainingError: when the loss is not finite; the step's update is not made. When a checkpoint
            cannot be written, as the disk is full; the one before stays.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP.
    """
    keep_large_blocks()
    hold_threads()
    out = Path(out)
    begun_from = Run.open(init_from) if isinstance(init_from, str | Path) else init_from
    if begun_from is not None:
        check_sizes(begun_from.config, config, begun_from.path)
        if process_group.world_size() > 1 and config.samples_negatives:
            raise ConfigError(
                "a run whose rows are spread over processes cannot be begun from another. Remedy: "
                "start it in one process, stop it, and go on with torchrun and --resume."
            )
    origin = {"start": begun_from.origin()} if begun_from else {}
    first = process_group.rank() == 0
    # Asked before the first process writes anything.
    (going_on,) = process_group.any_rank(resume and not is_hardly_begun(out))
    if going_on:
        run = reopen(out, config, dataset, origin)
    elif first:
        run = Run.create(out, config, dataset, origin)
    else:
        run = Run(out, config, dataset.vocabulary)
    with _writing(out) if first else nullcontext(_silent()) as log:
        trainer = _Trainer(run, dataset, log, progress and first)
        if not trainer.restore():
            trainer.begin(begun_from)
        trainer.fit()
    return run


@contextmanager
def _writing(out: Path) -> Iterator[logging.Logger]:
    """What the process that writes holds and clears up, and the run's log."""
    with alone_in(out), log_to(out / LOG) as log:
        remove_leftovers(out, (*BEGINNING, LAST, BEST, OWNERS, HISTORY))
        yield log


def _silent() -> logging.Logger:
    log = logging.Logger("kgtool.train", logging.CRITICAL + 1)
    log.addHandler(logging.NullHandler())
    return log


class _Trainer(Updater):
    """The state of a training run: everything that `last.safetensors` holds."""

    def __init__(self, run: Run, dataset: KGDataset, log: logging.Logger, progress: bool) -> None:
        self.run, self.dataset, self.log, self.progress = run, dataset, log, progress
        super().__init__(run.config, dataset, run.path / OWNERS)
        # What a checkpoint holds beside tensors.
        self.stale = 0
        self.loss_sum = self.seconds = 0.0
        self.saved = 0.0
        self.best_mrr = -1.0
        self.history: list[dict[str, float]] = []

    def begin(self, start: Run | None) -> None:
        """Save what there is before a step: at random, or another run's, validated as epoch 0.

        So that a folder that cannot be written to, or has no room, is told of now.
        """
        if start is None:
            self.save()
            return
        vocabulary, path = self.dataset.vocabulary, start.path / BEST
        weights = load_tensors(path)[0]
        missing = carry(self.model, weights, start.vocabulary, vocabulary, path)
        self.model.start_entities(missing)
        self.log.info("begun from %s; %d entities are new to it", start.path, len(missing))
        self.save(better=self._validate(math.nan))

    def fit(self) -> None:
        """Train from where the state is to the last epoch or until patience ends."""
        settings = self.settings
        begun = time.perf_counter() - self.seconds
        self.log.info(
            "%d steps an epoch, %d epochs, products in %s on %s",
            self.steps_per_epoch, settings.epochs, self.precision, self.device,
        )  # fmt: skip
        bar = tqdm(
            total=self.total_steps,
            initial=self.step,
            desc="train",
            unit="step",
            disable=not self.progress,
        )
        with bar, stop_signals() as stopped:
            while not self._ended():
                order = self.objective.order(self.run.config.seed, self.epoch)
                batches = self._batches(order)
                for rows in batches[self.step - self.epoch * self.steps_per_epoch :]:
                    self.loss_sum += self._step(rows)
                    self.step += 1
                    done = self.step - self.epoch * self.steps_per_epoch
                    bar.update()
                    bar.set_postfix(loss=f"{self.loss_sum / done:.3f}", **self._latest())
                    self.seconds = time.perf_counter() - begun
                    stop, due = process_group.any_rank(
                        stopped(), time.perf_counter() - self.saved > SAVE_AFTER
                    )
                    if stop or due:
                        self.save()
                    if stop:
                        self.log.info("stopped after step %d; saved", self.step)
                        raise Interrupted
                self.epoch += 1
                better = False
                mean_loss, self.loss_sum = self.loss_sum / self.steps_per_epoch, 0.0
                if self.epoch % settings.validate_every == 0 or self.epoch == settings.epochs:
                    better = self._validate(mean_loss)
                    bar.set_postfix(loss=f"{mean_loss:.3f}", **self._latest())
                self.seconds = time.perf_counter() - begun
                self.save(better)
        self._check_best()
        self.log.info("finished after %.0f s: best valid MRR %.4f", self.seconds, self.best_mrr)

    def _validate(self, loss: float) -> bool:
        """Rank valid and note it; whether the weights are the best so far."""
        with self._autocast() if self.model.validates_as_trained else nullcontext():
            found: Evaluation = evaluate_model(self.scorer(), self.dataset, "valid")
        better = found.mrr > self.best_mrr
        self.stale = 0 if better else self.stale + 1
        metrics = found.filtered["both"]["realistic"]
        # Of the last step, which a resumed run may not have made itself.
        rate = learning_rate(self.settings, self.step - 1, self.total_steps)
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "seconds": round(self.seconds, 2),
                "loss": loss,
                "learning_rate": rate,
                **{f"valid_{name}": value for name, value in metrics.items()},
            }
        )
        if better:
            self.best_mrr = found.mrr
        self.log.info(
            "epoch %d: loss %.4f, valid MRR %.4f, best %.4f, %.0f s", self.epoch,
            loss, found.mrr, self.best_mrr, self.seconds,
        )  # fmt: skip
        return better

    def _latest(self) -> dict[str, str]:
        if not self.history:
            return {}
        return {"valid_mrr": f"{self.history[-1]['valid_mrr']:.4f}"}

    def _ended(self) -> bool:
        """Whether the last epoch is trained, or patience has run out."""
        s = self.settings
        return self.epoch >= s.epochs or (s.patience is not None and self.stale >= s.patience)

    def save(self, better: bool = False) -> None:
        """Write `last.safetensors`, and then what follows from it: history and better weights.

        In that order: what a killed run has not written of those, it writes when it is resumed.
        """
        weights = self.whole(self.model.state_dict())
        tensors = self.tensors(weights)
        state = {name: getattr(self, name) for name in _STATE}
        folder = self.run.path
        try:
            if process_group.rank() == 0:
                save_tensors(folder / LAST, tensors, state, before=folder / PREVIOUS)
                if better:
                    save_tensors(folder / BEST, weights, {"epoch": self.epoch})
                self._save_history()
            process_group.barrier()
        except KGToolError as error:
            if not has_checkpoint(folder):
                raise
            raise TrainingError(
                f"{error} Or make room there and go on with --resume: what is saved stays whole."
            ) from error
        self.saved = time.perf_counter()

    def _save_history(self) -> None:
        if self.history and process_group.rank() == 0:
            with atomic_write(self.run.path / HISTORY) as file:
                pd.DataFrame(self.history).to_csv(file, sep="\t", index=False)

    def restore(self) -> bool:
        """Read the last checkpoint back, or the one before it; whether there is any.

        Raises:
            RunError: when it is damaged or not of this run.
        """
        path = self.run.path / LAST
        found = _in_turn(lambda: load_either(path, self.run.path / PREVIOUS))
        if found is None:
            return False
        tensors, state, wrong = found
        try:
            for name, kind in _STATE.items():
                if not _sound(state[name], kind):
                    raise ValueError(f"its {name} is none")
                setattr(self, name, state[name])
            if not 0 <= self.step - self.epoch * self.steps_per_epoch <= self.steps_per_epoch:
                raise ValueError(f"step {self.step} is not of epoch {self.epoch}")
            self.take(tensors, path)
        except KeyError as error:
            raise RunError(f"{path}: incomplete checkpoint, without {error}") from error
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
            ) from error
        if wrong:
            self._tell(f"{wrong} Going on from {PREVIOUS}, which was saved before it.")
        self.log.info("resumed at step %d", self.step)
        self._check_best()
        if self._ended():
            self._save_history()
        else:
            self.save()  # tells now of a folder that cannot be written to
        return True

    def _check_best(self) -> None:
        """See that `best.safetensors` holds the weights of the history's best row; else mend it.

        It may be of an epoch that is trained anew: then the same weights come again.

        Raises:
            RunError: when it does not, and the weights of that epoch are gone.
        """
        if not self.history:
            return
        best = int(max(self.history, key=lambda row: row["valid_mrr"])["epoch"])
        path = self.run.path / BEST
        try:
            epoch = load_tensors(path)[1].get("epoch")
            epoch = epoch if type(epoch) is int else -1
            wrong = f"{path} holds the weights of epoch {epoch}, not those of epoch {best}."
        except RunError as error:
            epoch, wrong = -1, fault(error)
        if epoch == best or epoch > self.epoch:
            return
        if (self.epoch, self.step) != (best, best * self.steps_per_epoch):
            raise RunError(
                f"{wrong} Remedy: restore {path}; or remove {LAST} and {PREVIOUS} there too and go "
                "on with --resume, which begins anew."
            )
        weights = self.whole(self.model.state_dict())
        if process_group.rank() == 0:
            save_tensors(path, weights, {"epoch": self.epoch})
        self._tell(f"{wrong} They are those of {LAST}, and written anew.")

    def _tell(self, message: str) -> None:
        """Say in the log and on the terminal what the user should know of."""
        message = harmless(message)  # it may quote a file, which may be a stranger's
        self.log.warning(message)
        if process_group.rank():
            return
        tqdm.write(f"kgtool: {message}", file=sys.stderr)


def _in_turn(read: Callable[[], Read]) -> Read:
    """What the first process reads, which may rename files, and then the others.

    All have read when any goes on, which may write.
    """
    error, first = None, process_group.rank() == 0
    if first:
        try:
            found = read()
        except KGToolError as what:
            error = what  # the others meet it too
    process_group.barrier()
    if error:
        raise error
    if not first:
        found = read()
    process_group.barrier()
    return found


# What a checkpoint's JSON holds, and its type.
_STATE: dict[str, type] = {
    "epoch": int, "step": int, "stale": int, "loss_sum": float, "seconds": float,
    "best_mrr": float, "history": list,
}  # fmt: skip


def _sound(value: Any, kind: type) -> bool:
    """Whether a value of a checkpoint may be one: a file may be a stranger's."""
    if kind is list:
        return isinstance(value, list) and all(
            isinstance(row, dict)
            and _sound(row.get("epoch"), int)
            and _sound(row.get("valid_mrr"), float)
            and all(type(number) in (int, float) for number in row.values())
            for row in value
        )
    if kind is int:
        return type(value) is int and value >= 0
    return isinstance(value, float) and math.isfinite(value)
