"""The trainer: steps, validation and checkpoints; it stops and resumes without loss."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
import torch

from kgtool.config import Config
from kgtool.data.dataset import KGDataset, check_not_empty
from kgtool.data.loaders.feature_files import coverages, with_features
from kgtool.distributed import process_group
from kgtool.errors import (
    ConfigError,
    Interrupted,
    KGToolError,
    RunError,
    TrainingError,
    harmless,
)
from kgtool.evaluation.ensemble import fit_mixture
from kgtool.evaluation.evaluator import Evaluation, evaluate_model
from kgtool.models.combined import CombinedModel
from kgtool.ops import (
    Progress,
    keep_large_blocks,
    own_random_state,
    say,
    standard_state,
)
from kgtool.runs.log import log_to
from kgtool.runs.pretrained import pretrained_run
from kgtool.runs.run import (
    BEGINNING,
    BEST,
    FEATURES,
    HISTORY,
    LAST,
    LOG,
    OWNERS,
    PRETRAINED,
    PREVIOUS,
    TRIPLES,
    Run,
    has_checkpoint,
    is_hardly_begun,
    part_of,
    reopen,
)
from kgtool.runs.tracking import Tracker, Tracking, trackers_of
from kgtool.storage.checkpoint import (
    Tensors,
    fault,
    load_either,
    load_tensors,
    load_weights,
    save_tensors,
)
from kgtool.storage.files import alone_in, atomic_write, remove_leftovers
from kgtool.training.optimizer import learning_rate
from kgtool.training.pretraining import Source, check_held_out, load_sources
from kgtool.training.signals import stop_signals
from kgtool.training.step import Updater
from kgtool.training.warm_start import carry, check_sizes

# Maximum seconds between two checkpoints; each epoch ends with one, too.
SAVE_AFTER = 600.0

Read = TypeVar("Read")


class Watch(Protocol):
    """Ends a training early, as a search over settings does."""

    def is_over(self) -> bool:
        """Whether training should save and stop after this step, as after Ctrl-C."""

    def goes_on(self, done: float, mrr: float) -> bool:
        """Whether training should go on after a validation.

        Args:
            done: the share of all steps that are done, above 0 and below 1.
            mrr: the best valid MRR of the part that is trained.
        """


class Pruned(Interrupted):
    """A `Watch` ended the training after a validation; its state has been saved."""


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
    watch: Watch | None = None,
) -> Run:
    """Train a model and write a run folder.

    After Ctrl-C, SIGTERM or SIGHUP, training finishes the step, saves a checkpoint and stops. A
    killed run loses at most the last ten minutes or the last epoch. A resumed run continues
    exactly: it gives the same numbers as a run that never stopped.

    On a CPU, the same seed, data, kind of CPU and versions of torch and numba give the same
    result, bit for bit, on any number of threads. Another kind of CPU adds up numbers in another
    order, and a GPU in no fixed order. Then the last bits may differ, and training amplifies this
    difference.

    A resumed run may have another `training.epochs` or `training.patience`; a finished run then
    goes on. Each further step takes its learning rate from the schedule over the new number of
    epochs. With `training.lr_schedule = "constant"` this is the run that had the new number from
    the start. With another schedule the rate of a finished run rises once more, which is a warm
    restart.

    The parts of a combined model are trained one after the other, the embeddings first. The
    embeddings that the sum uses are those of their best validation. When the passes are validated,
    the weights of the sum are fitted, and the best sum is selected.

    Other trainings in the same process, in other threads, wait: torch has one random state.

    Args:
        config: the configuration of the run.
        dataset: the triples. Train gives the graph and the loss, valid selects the best weights.
            With the section `[pretrain]`, the loss is that of other graphs, see
            `kgtool.training.pretraining`.
        out: the run folder. It must not exist or must be empty, except with `resume`.
        resume: continue from the last checkpoint of `out`, or from the previous one if the last is
            damaged; `config` must be the configuration of that run, except for `training.epochs`
            and `training.patience`.
        progress: show a progress bar, or, without a terminal or notebook, a line a minute and a
            line per validation.
        init_from: a run that gives the initial weights, matched by label: see
            `kgtool.training.warm_start`; or `"pretrained"`, for the weights that come with kgtool.
            By default that of `config.init_from`. Training validates them before the first step,
            as epoch 0, so the best weights may be the initial ones. A resumed run does not need it
            again.
        track: trackers of `kgtool.runs.tracking` that show the course of the training: one or more
            of `"tensorboard"`, `"mlflow"`, `"wandb"`. A resumed run continues the same tracked
            run; training goes on without a tracker that fails.
        watch: may end the training early, in one process.

    Returns:
        The run with the weights of the best validation.

    Raises:
        DataError: when train or valid has no triples, or a graph of `[pretrain]` cannot be used:
            it cannot be loaded, has no triples, or is the data set itself.
        ConfigError: for an unknown tracker, or one whose package is not installed.
        RunError: when the folder is not empty or another process uses it, the run to resume is
            missing, the run is damaged, or the initial weights do not fit.
        KGToolError: before the first step, when the folder is not writable.
        TrainingError: when the loss is not finite (the step changes no weights), or when a
            checkpoint cannot be written, for example on a full disk (the previous one stays).
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, or when `watch` is over.
        Pruned: when the training does not go on by `watch`.
    """
    trackers = trackers_of(track)
    keep_large_blocks()
    out = Path(out)
    check_not_empty(dataset, ("train", "valid"))
    wanted = config.encoder.features if config.encoder else None
    dataset = with_features(dataset, wanted)
    if init_from is None and not (resume and has_checkpoint(out)):
        init_from = config.init_from
    start = _start(init_from, dataset)
    if start is not None:
        check_sizes(start.config, config, start.path)
        if wanted and dataset.features:
            dataset.features.check_widths(start.features().widths, str(start.path))
        if process_group.world_size() > 1 and config.samples_negatives:
            raise ConfigError(
                "--init-from does not work with negative sampling in several processes. Remedy: "
                "start the run in one process, stop it, and continue with torchrun and --resume."
            )
    if process_group.world_size() > 1 and config.samples_negatives and config.combined:
        raise ConfigError(
            "negative sampling in several processes trains a one-path model alone. Remedy: remove "
            "the section [all_paths], or train in one process."
        )
    sources = load_sources(config)
    check_held_out(sources, dataset)
    origin: dict[str, Any] = {"start": start.origin()} if start else {}
    if config.pretrain:
        origin["sources"] = [source.info() for source in sources]
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
        lines = [*map(str, coverages(dataset, wanted)), *map(str, sources)]
        if config.pretrain:
            lines += _pretraining_lines(config.pretrain.synthetic, dataset.name)
        for line in lines:
            log.info(line)
            if progress and first:
                say(line)
        trainer = _Trainer(run, dataset, log, progress and first, sources=sources)
        trainer.watch = watch
        if not trainer.restore():
            trainer.begin(start)
        elif first:
            run.save_config()
        with trainer.tracked(trackers if first else {}):
            trainer.fit()
    return run


def _start(run: Run | str | Path | None, dataset: KGDataset) -> Run | None:
    """The run with the initial weights of a training on a data set; None for random ones."""
    if run is None or isinstance(run, Run):
        return run
    if str(run) == PRETRAINED and not Path(run).exists():
        return pretrained_run(dataset)
    return Run.open(run)


def _pretraining_lines(synthetic: float, held_out: str) -> list[str]:
    """Lines for the log: the share of synthetic graphs, and the data set that is held out."""
    share = f"pre-training on synthetic graphs: {100 * synthetic:.0f} % of the steps"
    lines = [share] if synthetic else []
    return [*lines, f"{held_out} is held out: training validates on it and does not learn from it"]


@contextmanager
def _writing(out: Path) -> Iterator[logging.Logger]:
    """Lock the run folder, remove leftovers, and open the log, in the process that writes."""
    with alone_in(out), log_to(out / LOG) as log:
        remove_leftovers(out, (*BEGINNING, TRIPLES, FEATURES, LAST, BEST, OWNERS, HISTORY))
        yield log


def _silent() -> logging.Logger:
    log = logging.Logger("kgtool.train", logging.CRITICAL + 1)
    log.addHandler(logging.NullHandler())
    return log


# Steps of an epoch whose loss trackers show.
LOGGED = 50
# What the parts of a model are called in progress lines.
NAMES = {"one_path": "embeddings", "all_paths": "paths"}


class _Trainer:
    """The state of a training run: everything that `last.safetensors` holds.

    Attributes:
        model: the whole model.
        parts: the training of each part, in order.
        part: the number of the part that is being trained.
    """

    def __init__(
        self,
        run: Run,
        dataset: KGDataset,
        log: logging.Logger,
        progress: bool,
        *,
        sources: Sequence[Source] = (),
    ) -> None:
        self.run, self.dataset, self.log, self.progress = run, dataset, log, progress
        self.tracking = Tracking({}, run.path, self._warn)
        self.watch: Watch | None = None
        self.parts: dict[str, Updater] = {}
        graph = None  # all parts read one graph
        for name, config in run.config.parts.items():
            self.parts[name] = Updater(config, dataset, run.path / OWNERS, graph, sources)
            graph = self.parts[name].model.graph
        self.names = list(self.parts)
        models = {name: part.model for name, part in self.parts.items()}
        self.model = CombinedModel.of(models) if len(models) > 1 else models[self.names[0]]
        # The state that a checkpoint holds in addition to tensors.
        self.part = self.stale = 0
        self.loss_sum = self.seconds = 0.0
        self.saved = 0.0
        self.best_mrr = -1.0
        self.history: list[dict[str, Any]] = []
        torch.set_rng_state(self.now.generator)

    @property
    def now(self) -> Updater:
        """The training of the current part."""
        return self.parts[self.names[self.part]]

    @property
    def steps(self) -> int:
        """The number of steps so far, with all planned steps of the parts before."""
        before = (self.parts[name] for name in self.names[: self.part])
        return sum(part.total_steps for part in before) + self.now.step

    @property
    def total_steps(self) -> int:
        """The number of planned steps of all parts."""
        return sum(part.total_steps for part in self.parts.values())

    @property
    def combined(self) -> bool:
        """Whether the model has several parts."""
        return len(self.parts) > 1

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the history that belong to the current part."""
        name = self.names[self.part]
        return [row for row in self.history if row.get("part", name) == name]

    def begin(self, start: Run | None) -> None:
        """Save the initial weights before the first step; validate those of another run.

        So an error about a read-only folder or a full disk comes before the training.
        """
        if start is None:
            self.save()
            return
        vocabulary = self.dataset.vocabulary
        path, weights, _ = start.weights(whole=True)
        missing = carry(self.model, weights, start.vocabulary, vocabulary, path)
        self.model.start_entities(missing)
        self.log.info("initial weights from %s; %d entities are new", start.path, len(missing))
        self.save(better=self._validate(math.nan))

    @contextmanager
    def tracked(self, trackers: Mapping[str, Tracker]) -> Iterator[None]:
        """Let trackers show what happens in the `with` block."""
        data = {"data_set": self.dataset.name, "data_fingerprint": self.dataset.fingerprint}
        self.tracking = Tracking(trackers, self.run.path, self._warn)
        self.tracking.start(dict(self.run.config.settings()) | data, self.steps, self.history)
        status = "failed"
        try:
            yield
            status = "finished"
        except Interrupted:
            status = "stopped"
            raise
        finally:
            self.tracking.end(status, self.rows)

    def fit(self) -> None:
        """Train from the current state to the end of the last part."""
        if self._ended():
            self._log_end()
            self._report_end()
            return
        bar = Progress(self.total_steps, "train", "step", shown=self.progress, initial=self.steps)
        self._clock = time.perf_counter() - self.seconds
        with bar, stop_signals() as stopped:
            self._fit_part(bar, stopped)
            while self.part + 1 < len(self.parts):
                self._next_part()
                self._fit_part(bar, stopped)
        self._check_best()
        self._log_end()

    def _fit_part(self, bar: Progress, stopped: Callable[[], bool]) -> None:
        """Train the current part to its last epoch, or until patience ends."""
        now, settings = self.now, self.now.settings
        name = self.names[self.part]
        self.log.info(
            "%s%d steps per epoch, %d epochs, products in %s on %s",
            f"{name}: " if self.combined else "",
            now.steps_per_epoch, settings.epochs, now.precision, now.device,
        )  # fmt: skip
        label = f"{NAMES[name]}, " if self.combined else ""
        log_every = max(1, round(now.steps_per_epoch / LOGGED))
        while not self._part_ended():
            title = f"{label}epoch {now.epoch + 1} of {settings.epochs}"
            bar.rename(title)
            order = now.objective.order(self.run.config.seed, now.epoch)
            batches = now.batches(order)
            for rows in batches[now.step - now.epoch * now.steps_per_epoch :]:
                loss = now.make_step(rows)
                self.loss_sum += loss
                now.step += 1
                if now.step % log_every == 0:
                    self.tracking.log(self.steps, {"train/step_loss": loss})
                done = now.step - now.epoch * now.steps_per_epoch
                bar.update(1, self._latest(self.loss_sum / done))
                self._count_seconds()
                over = self.watch is not None and self.watch.is_over()
                stop, due = process_group.any_rank(
                    stopped() or over, time.perf_counter() - self.saved > SAVE_AFTER
                )
                if stop or due:
                    self.save()
                if stop:
                    self.log.info("stopped after step %d; saved", now.step)
                    raise Interrupted
            now.epoch += 1
            better = validated = False
            mean_loss, self.loss_sum = self.loss_sum / now.steps_per_epoch, 0.0
            if now.epoch % settings.validate_every == 0 or now.epoch == settings.epochs:
                bar.rename(f"{label}validation after epoch {now.epoch}")
                bar.stage(None)
                better, validated = self._validate(mean_loss), True
                bar.rename(title)
                bar.update(0, self._latest(mean_loss))
                if bar.shown and not bar.drawn:
                    say(self._validated())
            else:
                self.tracking.log(self.steps, {"train/loss": mean_loss})
            self._count_seconds()
            self.save(better)
            if validated:
                self._ask_watch()
        bar.update(now.total_steps - now.step)  # patience ends a part early

    def _ask_watch(self) -> None:
        """Raise `Pruned` if the training does not go on by its watch."""
        if self.watch is None or self._ended():
            return
        done = self.steps / self.total_steps
        if not self.watch.goes_on(done, self.best_mrr):
            self.log.info("pruned after %.0f %% of the steps", 100 * done)
            raise Pruned

    def _count_seconds(self) -> None:
        self.seconds = time.perf_counter() - self._clock

    def _next_part(self) -> None:
        """Restore the best weights of the current part, and go on to the next one."""
        self._check_best()
        path, name = self.run.path / BEST, self.names[self.part]
        tensors, _ = _in_turn(lambda: load_tensors(path))
        load_weights(self.now.model, part_of(tensors, name), path)
        self.log.info("%s: best valid MRR %.4f", name, self.best_mrr)
        self.part += 1
        self.stale, self.best_mrr, self.loss_sum = 0, -1.0, 0.0
        torch.set_rng_state(self.now.generator)
        self.save()

    def _log_end(self) -> None:
        self.log.info("finished after %.0f s: best valid MRR %.4f", self.seconds, self.best_mrr)

    def _report_end(self) -> None:
        """Say how a finished run can go on."""
        name = "epochs" if self.now.epoch >= self.now.settings.epochs else "patience"
        message = (
            f"{self.run.path} is finished at epoch {self.now.epoch}, by training.{name}. To train "
            f"further, resume with a larger training.{name}."
        )
        self.log.info(message)
        if self.progress:
            say(message)

    def _validate(self, loss: float) -> bool:
        """Rank valid, add a row to the history, and return whether the MRR is the best so far.

        The last part of a combined model is validated in the sum, whose weights are then fitted.
        """
        now = self.now
        precision = now.autocast() if now.model.validates_as_trained else nullcontext()
        with now.averaged():
            if isinstance(self.model, CombinedModel) and self.part:
                result: Evaluation = self._validate_sum(self.model, precision)
            else:
                with precision:
                    result = evaluate_model(now.scorer(), self.dataset, "valid")
        better = result.mrr > self.best_mrr
        self.stale = 0 if better else self.stale + 1
        metrics = result.filtered["both"]["realistic"]
        # The rate of the last step, which may belong to the run before it was resumed.
        rate = learning_rate(now.settings, now.step - 1, now.total_steps)
        self.history.append(
            {
                **({"part": self.names[self.part]} if self.combined else {}),
                "epoch": now.epoch,
                "step": self.steps,
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

    def _validate_sum(
        self, model: CombinedModel, precision: AbstractContextManager[Any]
    ) -> Evaluation:
        """Fit the weights of the sum on valid, and return its metrics.

        Args:
            model: the model.
            precision: that of the passes; the embeddings' scores are float32.
        """
        embeddings = model.one_path.scorer()
        with precision:
            fitted = fit_mixture(model.all_paths.scorer(), embeddings, self.dataset)
        weight = model.mixture.get_buffer("weight")
        weight.copy_(fitted.weight)
        self.log.info(
            "weight of the embeddings: mean %.3f, from %g to %g, prior %g",
            float(weight.mean()), float(weight.min()), float(weight.max()), fitted.prior,
        )  # fmt: skip
        return fitted.evaluation

    def _validated(self) -> str:
        """The last validation in a line."""
        last = self.history[-1]
        part = f"{NAMES[last['part']]}, " if self.combined else ""
        return (
            f"{part}epoch {self.now.epoch}: loss {last['loss']:.4f}, "
            f"valid MRR {last['valid_mrr']:.4f}, best {self.best_mrr:.4f}, {self.seconds:.0f} s"
        )

    def _latest(self, loss: float) -> dict[str, str]:
        """The numbers that progress shows."""
        numbers = {"loss": f"{loss:.3f}"}
        if self.rows:
            numbers["valid_mrr"] = f"{self.history[-1]['valid_mrr']:.4f}"
        return numbers

    def _ended(self) -> bool:
        """Whether all parts have ended."""
        return self.part + 1 == len(self.parts) and self._part_ended()

    def _part_ended(self) -> bool:
        """Whether the last epoch of the current part is done or its patience has ended."""
        s = self.now.settings
        return self.now.epoch >= s.epochs or (s.patience is not None and self.stale >= s.patience)

    def save(self, better: bool = False) -> None:
        """Write `last.safetensors`, then the best weights and the history.

        The order matters: a resumed run can write the later files again from the first.
        """
        now, folder = self.now, self.run.path
        weights = now.whole(self.model.state_dict())
        tensors = now.tensors(weights)
        state = {name: getattr(self._holder(name), name) for name in _STATE}
        try:
            if process_group.rank() == 0:
                save_tensors(folder / LAST, tensors, state, before=folder / PREVIOUS)
                if better:
                    self._save_best(weights)
                self._save_history()
            process_group.barrier()
        except KGToolError as error:
            if not has_checkpoint(folder):
                raise
            raise TrainingError(
                f"{error} Or free space and continue with --resume; the last checkpoint is whole."
            ) from error
        self.saved = time.perf_counter()

    def _save_best(self, weights: Tensors) -> None:
        """Write the best weights: those of the parts that training has reached.

        Args:
            weights: those of the last step; their average takes their place.
        """
        state: dict[str, Any] = {"epoch": self.now.epoch}
        name = self.names[self.part]
        prefix = f"{name}." if self.combined else ""
        weights = weights | {prefix + key: t for key, t in self.now.average.items()}
        if self.combined:
            state["part"] = self.part
            if not self.part:
                weights = {f"{name}.{key}": t for key, t in part_of(weights, name).items()}
        save_tensors(self.run.path / BEST, weights, state)

    def _save_history(self) -> None:
        if self.history and process_group.rank() == 0:
            with atomic_write(self.run.path / HISTORY) as file:
                pd.DataFrame(self.history).to_csv(file, sep="\t", index=False)

    def _holder(self, name: str) -> object:
        """The object with a field of `_STATE`."""
        return self.now if name in ("epoch", "step") else self

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
            state = {"part": 0, **state}  # runs before this version have one part
            for name, kind in _STATE.items():
                if not _sound(state[name], kind):
                    raise ValueError(f"invalid {name}")
            if state["part"] >= len(self.parts):
                raise ValueError(f"unknown part {state['part']}")
            self.part = state["part"]
            now = self.now
            for name in _STATE:
                setattr(self._holder(name), name, state[name])
            if not 0 <= now.step - now.epoch * now.steps_per_epoch <= now.steps_per_epoch:
                raise ValueError(f"step {now.step} is not in epoch {now.epoch}")
            now.take(tensors, self.model, path)
            begun = self.loss_sum != 0  # there are steps after the last whole epoch
            if now.epoch + begun > now.settings.epochs:
                raise ConfigError(
                    f"training.epochs = {now.settings.epochs}, but {self.run.path} has reached "
                    f"epoch {now.epoch + begun}. Remedy: resume with a larger number."
                )
        except KeyError as error:
            raise RunError(f"{path}: incomplete checkpoint: {error} is missing") from error
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
            ) from error
        if wrong:
            self._warn(f"{wrong} Training continues from the previous checkpoint, {PREVIOUS}.")
        self.log.info("resumed at step %d", self.now.step)
        self._check_best()
        if self._ended():
            self._save_history()
        else:
            self.save()  # a folder that is not writable fails now
        return True

    def _check_best(self) -> None:
        """Check that `best.safetensors` has the weights of the part's best row of the history.

        If it does not, write it again. It may have the weights of a later epoch that the resumed
        run trains again: this epoch will give the same weights.

        Raises:
            RunError: when it does not, and the weights of the best epoch are lost.
        """
        if not self.rows:
            return
        now = self.now
        best = int(max(self.rows, key=lambda row: row["valid_mrr"])["epoch"])
        path = self.run.path / BEST
        try:
            state = load_tensors(path)[1]
            epoch = state.get("epoch")
            epoch = epoch if type(epoch) is int and state.get("part", 0) == self.part else -1
            wrong = f"{path} holds the weights of epoch {epoch}, not those of epoch {best}."
        except RunError as error:
            epoch, wrong = -1, fault(error)
        if epoch == best or epoch > now.epoch:
            return
        if (now.epoch, now.step) != (best, best * now.steps_per_epoch):
            raise RunError(
                f"{wrong} Remedy: restore the file. Or remove {LAST} and {PREVIOUS}, too: then "
                "--resume starts from the first step."
            )
        weights = now.whole(self.model.state_dict())
        if process_group.rank() == 0:
            self._save_best(weights)
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
    "part": int, "epoch": int, "step": int, "stale": int, "loss_sum": float, "seconds": float,
    "best_mrr": float, "history": list,
}  # fmt: skip


def _sound(value: Any, kind: type) -> bool:
    """Whether a value of a checkpoint has its type; the file may come from elsewhere."""
    if kind is list:
        return isinstance(value, list) and all(
            isinstance(row, dict)
            and isinstance(row.get("part", ""), str)
            and _sound(row.get("epoch"), int)
            and _sound(row.get("valid_mrr"), float)
            and all(
                type(number) in (int, float) and (math.isfinite(number) or name == "loss")
                for name, number in row.items()
                if name != "part"
            )
            for row in value
        )
    if kind is int:
        return type(value) is int and value >= 0
    return isinstance(value, float) and math.isfinite(value)
