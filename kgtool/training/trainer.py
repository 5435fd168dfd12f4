"""The trainer: steps, validation and checkpoints; it stops and resumes without loss."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.distributed import process_group
from kgtool.errors import (
    ConfigError,
    DataError,
    Interrupted,
    KGToolError,
    RunError,
    TrainingError,
    harmless,
)
from kgtool.evaluation.evaluator import Evaluation, evaluate_model
from kgtool.ops import (
    Progress,
    hold_threads,
    keep_large_blocks,
    own_random_state,
    say,
    standard_state,
)
from kgtool.runs.log import log_to
from kgtool.runs.run import (
    BEGINNING,
    BEST,
    HISTORY,
    LAST,
    LOG,
    OWNERS,
    PREVIOUS,
    TRIPLES,
    Run,
    has_checkpoint,
    is_hardly_begun,
    reopen,
)
from kgtool.runs.tracking import Tracker, Tracking, trackers_of
from kgtool.storage.checkpoint import fault, load_either, load_tensors, save_tensors
from kgtool.storage.files import alone_in, atomic_write, remove_leftovers
from kgtool.training.optimizer import learning_rate
from kgtool.training.signals import stop_signals
from kgtool.training.step import Updater
from kgtool.training.warm_start import carry, check_sizes

# Maximum seconds between two checkpoints; each epoch ends with one, too.
SAVE_AFTER = 600.0

Read = TypeVar("Read")


@standard_state()
def train(
    config: Config,
    dataset: KGDataset,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    init_from: Run | str | Path | None = None,
    track: str | Iterable[str] = (),
) -> Run:
    """Train a model and write a run folder.

    After Ctrl-C, SIGTERM or SIGHUP, training finishes the step, saves a checkpoint and stops. A
    killed run loses at most the last ten minutes or the last epoch. A resumed run continues
    exactly: it gives the same numbers as a run that never stopped.

    On a CPU, a seed gives the same result, bit for bit, with the same number of threads, the same
    kind of CPU and the same versions of torch and numba. Other threads or another CPU add up
    numbers in another order, and a GPU in no fixed order. Then the last bits may differ, and
    training amplifies this difference.

    A resumed run may have another `training.epochs` or `training.patience`; a finished run then
    goes on. Each further step takes its learning rate from the schedule over the new number of
    epochs. With `training.lr_schedule = "constant"` this is the run that had the new number from
    the start. With another schedule the rate of a finished run rises once more, which is a warm
    restart.

    Other trainings in the same process, in other threads, wait: torch has one random state.

    Args:
        config: the configuration of the run.
        dataset: the triples. Train gives the graph and the loss, valid selects the best weights.
        out: the run folder. It must not exist or must be empty, except with `resume`.
        resume: continue from the last checkpoint of `out`, or from the previous one if the last is
            damaged; `config` must be the configuration of that run, except for `training.epochs`
            and `training.patience`.
        progress: show a progress bar, or, without a terminal or notebook, a line a minute and a
            line per validation.
        init_from: a run that gives the initial weights, matched by label: see
            `kgtool.training.warm_start`. Training validates them before the first step, as epoch 0,
            so the best weights may be the initial ones. A resumed run does not need it again.
        track: trackers of `kgtool.runs.tracking` that show the course of the training: one or more
            of `"tensorboard"`, `"mlflow"`, `"wandb"`. A resumed run continues the same tracked
            run; training goes on without a tracker that fails.

    Returns:
        The run with the weights of the best validation.

    Raises:
        DataError: when train or valid has no triples.
        ConfigError: for an unknown tracker, or one whose package is not installed.
        RunError: when the folder is not empty or another process uses it, the run to resume is
            missing, the run is damaged, or the initial weights do not fit.
        KGToolError: before the first step, when the folder is not writable.
        TrainingError: when the loss is not finite (the step changes no weights), or when a
            checkpoint cannot be written, for example on a full disk (the previous one stays).
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP.
    """
    trackers = trackers_of(track)
    keep_large_blocks()
    hold_threads()
    out = Path(out)
    for split in ("train", "valid"):
        if not len(dataset.split(split)):
            raise DataError(
                f"{dataset.name}: {split} holds no triples, and training needs train and valid. "
                "Remedy: hold out some with kgtool.split or kgtool data split."
            )
    start = Run.open(init_from) if isinstance(init_from, str | Path) else init_from
    if start is not None:
        check_sizes(start.config, config, start.path)
        if process_group.world_size() > 1 and config.samples_negatives:
            raise ConfigError(
                "--init-from does not work with negative sampling in several processes. Remedy: "
                "start the run in one process, stop it, and continue with torchrun and --resume."
            )
    origin = {"start": start.origin()} if start else {}
    first = process_group.rank() == 0
    # All processes decide before the first one writes files.
    (resumed,) = process_group.any_rank(resume and not is_hardly_begun(out))
    if resumed:
        run = reopen(out, config, dataset, origin)
    elif first:
        run = Run.create(out, config, dataset, origin)
    else:
        run = Run(out, config, dataset.vocabulary)

    def waits() -> None:
        if progress:
            say(f"{out} waits for another training in this process")

    with _writing(out) if first else nullcontext(_silent()) as log, own_random_state(waits):
        if dataset.loading:
            log.info("data %s: %s", dataset.path, json.dumps(dataset.loading, ensure_ascii=False))
        trainer = _Trainer(run, dataset, log, progress and first)
        if not trainer.restore():
            trainer.begin(start)
        elif first:
            run.save_config()
        with trainer.tracked(trackers if first else {}):
            trainer.fit()
    return run


@contextmanager
def _writing(out: Path) -> Iterator[logging.Logger]:
    """Lock the run folder, remove leftovers, and open the log, in the process that writes."""
    with alone_in(out), log_to(out / LOG) as log:
        remove_leftovers(out, (*BEGINNING, TRIPLES, LAST, BEST, OWNERS, HISTORY))
        yield log


def _silent() -> logging.Logger:
    log = logging.Logger("kgtool.train", logging.CRITICAL + 1)
    log.addHandler(logging.NullHandler())
    return log


class _Trainer(Updater):
    """The state of a training run: everything that `last.safetensors` holds."""

    def __init__(self, run: Run, dataset: KGDataset, log: logging.Logger, progress: bool) -> None:
        self.run, self.dataset, self.log, self.progress = run, dataset, log, progress
        self.tracking = Tracking({}, run.path, self._warn)
        super().__init__(run.config, dataset, run.path / OWNERS)
        self.log_every = max(1, self.steps_per_epoch // 50)
        # The state that a checkpoint holds in addition to tensors.
        self.stale = 0
        self.loss_sum = self.seconds = 0.0
        self.saved = 0.0
        self.best_mrr = -1.0
        self.history: list[dict[str, float]] = []

    def begin(self, start: Run | None) -> None:
        """Save the initial weights before the first step; validate those of another run.

        So an error about a read-only folder or a full disk comes before the training.
        """
        if start is None:
            self.save()
            return
        vocabulary = self.dataset.vocabulary
        path, weights, _ = start.weights()
        missing = carry(self.model, weights, start.vocabulary, vocabulary, path)
        self.model.start_entities(missing)
        self.log.info("initial weights from %s; %d entities are new", start.path, len(missing))
        self.save(better=self._validate(math.nan))

    @contextmanager
    def tracked(self, trackers: Mapping[str, Tracker]) -> Iterator[None]:
        """Let trackers show what happens in the `with` block."""
        data = {"data_set": self.dataset.name, "data_fingerprint": self.dataset.fingerprint}
        self.tracking = Tracking(trackers, self.run.path, self._warn)
        self.tracking.start(dict(self.run.config.settings()) | data, self.step, self.history)
        status = "failed"
        try:
            yield
            status = "finished"
        except Interrupted:
            status = "stopped"
            raise
        finally:
            self.tracking.end(status, self.history)

    def fit(self) -> None:
        """Train from the current state to the last epoch, or until patience ends."""
        settings = self.settings
        started = time.perf_counter() - self.seconds
        if self._ended():
            self._log_end()
            self._report_end()
            return
        self.log.info(
            "%d steps per epoch, %d epochs, products in %s on %s",
            self.steps_per_epoch, settings.epochs, self.precision, self.device,
        )  # fmt: skip
        bar = Progress(self.total_steps, "train", "step", shown=self.progress, initial=self.step)
        with bar, stop_signals() as stopped:
            while not self._ended():
                bar.rename(f"epoch {self.epoch + 1} of {settings.epochs}")
                order = self.objective.order(self.run.config.seed, self.epoch)
                batches = self._batches(order)
                for rows in batches[self.step - self.epoch * self.steps_per_epoch :]:
                    loss = self._step(rows)
                    self.loss_sum += loss
                    self.step += 1
                    if self.step % self.log_every == 0:
                        self.tracking.log(self.step, {"train/step_loss": loss})
                    done = self.step - self.epoch * self.steps_per_epoch
                    bar.update(1, self._latest(self.loss_sum / done))
                    self.seconds = time.perf_counter() - started
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
                    bar.update(0, self._latest(mean_loss))
                    if bar.shown and not bar.drawn:
                        say(self._validated())
                else:
                    self.tracking.log(self.step, {"train/loss": mean_loss})
                self.seconds = time.perf_counter() - started
                self.save(better)
        self._check_best()
        self._log_end()

    def _log_end(self) -> None:
        self.log.info("finished after %.0f s: best valid MRR %.4f", self.seconds, self.best_mrr)

    def _report_end(self) -> None:
        """Say how a finished run can go on."""
        name = "epochs" if self.epoch >= self.settings.epochs else "patience"
        message = (
            f"{self.run.path} is finished at epoch {self.epoch}, by training.{name}. To train "
            f"further, resume with a larger training.{name}."
        )
        self.log.info(message)
        if self.progress:
            say(message)

    def _validate(self, loss: float) -> bool:
        """Rank valid, add a row to the history, and return whether the MRR is the best so far."""
        with self._autocast() if self.model.validates_as_trained else nullcontext():
            result: Evaluation = evaluate_model(self.scorer(), self.dataset, "valid")
        better = result.mrr > self.best_mrr
        self.stale = 0 if better else self.stale + 1
        metrics = result.filtered["both"]["realistic"]
        # The rate of the last step, which may belong to the run before it was resumed.
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
            self.best_mrr = result.mrr
        self.log.info(self._validated())
        self.tracking.log_row(self.history[-1])
        return better

    def _validated(self) -> str:
        """The last validation in a line."""
        last = self.history[-1]
        return (
            f"epoch {self.epoch}: loss {last['loss']:.4f}, valid MRR {last['valid_mrr']:.4f}, "
            f"best {self.best_mrr:.4f}, {self.seconds:.0f} s"
        )

    def _latest(self, loss: float) -> dict[str, str]:
        """The numbers that progress shows."""
        numbers = {"loss": f"{loss:.3f}"}
        if self.history:
            numbers["valid_mrr"] = f"{self.history[-1]['valid_mrr']:.4f}"
        return numbers

    def _ended(self) -> bool:
        """Whether the last epoch is done or patience has ended."""
        s = self.settings
        return self.epoch >= s.epochs or (s.patience is not None and self.stale >= s.patience)

    def save(self, better: bool = False) -> None:
        """Write `last.safetensors`, then the best weights and the history.

        The order matters: a resumed run can write the later files again from the first.
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
                f"{error} Or free space and continue with --resume; the last checkpoint is whole."
            ) from error
        self.saved = time.perf_counter()

    def _save_history(self) -> None:
        if self.history and process_group.rank() == 0:
            with atomic_write(self.run.path / HISTORY) as file:
                pd.DataFrame(self.history).to_csv(file, sep="\t", index=False)

    def restore(self) -> bool:
        """Restore the last checkpoint, or the previous one; return whether there is one.

        Raises:
            RunError: when it is damaged or belongs to another run.
        """
        path = self.run.path / LAST
        checkpoint = _in_turn(lambda: load_either(path, self.run.path / PREVIOUS))
        if checkpoint is None:
            return False
        tensors, state, wrong = checkpoint
        try:
            for name, kind in _STATE.items():
                if not _sound(state[name], kind):
                    raise ValueError(f"invalid {name}")
                setattr(self, name, state[name])
            if not 0 <= self.step - self.epoch * self.steps_per_epoch <= self.steps_per_epoch:
                raise ValueError(f"step {self.step} is not in epoch {self.epoch}")
            self.take(tensors, path)
            begun = self.loss_sum != 0  # there are steps after the last whole epoch
            if self.epoch + begun > self.settings.epochs:
                raise ConfigError(
                    f"training.epochs = {self.settings.epochs} is less than {self.run.path} has "
                    f"trained: {self.epoch} epochs. Remedy: resume with a larger number."
                )
        except KeyError as error:
            raise RunError(f"{path}: incomplete checkpoint: {error} is missing") from error
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
            ) from error
        if wrong:
            self._warn(f"{wrong} Training continues from the previous checkpoint, {PREVIOUS}.")
        self.log.info("resumed at step %d", self.step)
        self._check_best()
        if self._ended():
            self._save_history()
        else:
            self.save()  # a folder that is not writable fails now
        return True

    def _check_best(self) -> None:
        """Check that `best.safetensors` has the weights of the best row of the history.

        If it does not, write it again. It may have the weights of a later epoch that the resumed
        run trains again: this epoch will give the same weights.

        Raises:
            RunError: when it does not, and the weights of the best epoch are lost.
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
                f"{wrong} Remedy: restore {path}; or remove {LAST} and {PREVIOUS} there too and "
                "train again with --resume, which then starts from the first step."
            )
        weights = self.whole(self.model.state_dict())
        if process_group.rank() == 0:
            save_tensors(path, weights, {"epoch": self.epoch})
        self._warn(f"{wrong} {LAST} has these weights; {BEST} is written again.")

    def _warn(self, message: str) -> None:
        """Write a warning to the log and to the terminal."""
        message = harmless(message)  # it may quote a file from elsewhere
        self.log.warning(message)
        if process_group.rank():
            return
        say(f"kgtool: {message}")


def _in_turn(read: Callable[[], Read]) -> Read:
    """Read in the first process, which may rename files, and then in the others.

    No process continues, and writes, before all have read.
    """
    error, first = None, process_group.rank() == 0
    if first:
        try:
            value = read()
        except KGToolError as raised:
            error = raised  # the others get the same error
    process_group.barrier()
    if error:
        raise error
    if not first:
        value = read()
    process_group.barrier()
    return value


# The fields of a checkpoint's JSON, and their types.
_STATE: dict[str, type] = {
    "epoch": int, "step": int, "stale": int, "loss_sum": float, "seconds": float,
    "best_mrr": float, "history": list,
}  # fmt: skip


def _sound(value: Any, kind: type) -> bool:
    """Whether a value of a checkpoint has its type; the file may come from elsewhere."""
    if kind is list:
        return isinstance(value, list) and all(
            isinstance(row, dict)
            and _sound(row.get("epoch"), int)
            and _sound(row.get("valid_mrr"), float)
            and all(
                type(number) in (int, float) and (math.isfinite(number) or name == "loss")
                for name, number in row.items()
            )
            for row in value
        )
    if kind is int:
        return type(value) is int and value >= 0
    return isinstance(value, float) and math.isfinite(value)
