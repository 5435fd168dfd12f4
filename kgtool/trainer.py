"""Training: queries in, steps, validation, checkpoints; stops and goes on without loss."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from kgtool import processes
from kgtool.checkpoint import (
    Tensors,
    load_tensors,
    load_weights,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from kgtool.config import Config, TrainingConfig
from kgtool.errors import RunError, TrainingError
from kgtool.evaluator import Evaluation, evaluate_model
from kgtool.extend import carry, check_sizes, start_entities
from kgtool.files import atomic_write
from kgtool.model import PathModel
from kgtool.objective import make_objective
from kgtool.ops import in_threads, keep_large_blocks
from kgtool.optimizer import clip_norm, learning_rate, make_optimizer, set_rate, training_dtype
from kgtool.run import BEST, HISTORY, LAST, LOG, Run, build_model
from kgtool.triples import KGDataset


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training, after the checkpoint was written."""


def train(
    config: Config,
    dataset: KGDataset,
    out: str | Path,
    resume: bool = False,
    progress: bool = True,
    start: Run | str | Path | None = None,
) -> Run:
    """Train a model and leave a run folder.

    Interrupted by Ctrl-C or SIGTERM, it finishes the step, saves, and stops; resumed, it continues
    exactly: the same numbers as a run that was never stopped, on the same machine and threads.

    Args:
        config: what to train and how.
        dataset: the triples; train makes the messages and the loss, valid selects the model.
        out: the run folder, which must not exist or be empty unless `resume`.
        resume: go on from the last checkpoint of `out`; `config` must be the run's own.
        progress: show a progress bar.
        start: a run whose weights to begin from, in place of random ones, matched by label: see
            `kgtool.extend`. It is validated before the first step, as epoch 0, so that what
            training makes worse is not kept. A resumed run need not be told again.

    Returns:
        The run, whose weights are those of the best validation.

    Raises:
        RunError: when the folder is taken, there is nothing to resume, or the start's weights do
            not fit.
        TrainingError: when the loss is not finite; the step's update is not made.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    keep_large_blocks()
    out = Path(out)
    begun_from = Run.open(start) if isinstance(start, str | Path) else start
    if begun_from is not None:
        check_sizes(begun_from.config, config, begun_from.path)
    origin = {"start": begun_from.origin} if begun_from else {}
    if resume:
        run = _reopen(out, config, dataset, origin)
    elif processes.rank() == 0:
        run = Run.create(out, config, dataset, origin)
    else:
        run = Run(out, config, dataset.vocabulary)
    with log_to(out / LOG) as log:
        trainer = _Trainer(run, dataset, log, progress and processes.rank() == 0)
        if resume and (out / LAST).exists():
            trainer.restore()
        elif begun_from is not None:
            trainer.begin_from(begun_from)
        trainer.fit()
    return run


def _reopen(out: Path, config: Config, dataset: KGDataset, origin: dict[str, Any]) -> Run:
    run = Run.open(out)
    recorded = run.info
    if "extended" in recorded:
        raise RunError(
            f"{out} was made by extend, and holds no training to go on with. Remedy: train with "
            f"--start {out} into another folder."
        )
    begun_from, told = recorded.get("start"), origin.get("start")
    # Once there is a checkpoint, the start need not be told again.
    if told != begun_from and (told or not (out / LAST).exists()):
        how = f"from {begun_from['run']}" if begun_from else "at random"
        raise RunError(f"{out} was begun {how}. Remedy: resume with the same --start.")
    # The place of the data may change; its fingerprint may not.
    if run.config.model_copy(update={"data": config.data}) != config:
        raise RunError(
            f"{out} was begun with another configuration. Remedy: resume with its own, "
            f"{out / 'config.toml'}, or train into another folder."
        )
    if recorded["fingerprint"] != dataset.fingerprint:
        raise RunError(f"{out} was begun on other data. Remedy: resume with the same files.")
    return run


@dataclass(frozen=True, eq=False)
class _Worked:
    """A part of a step: its summed loss, of how many, and the gradients by parameter."""

    loss: float
    count: int
    gradients: tuple[Tensor | None, ...]


class _Trainer:
    """The state of a training run: everything that `last.safetensors` holds."""

    def __init__(self, run: Run, dataset: KGDataset, log: logging.Logger, progress: bool) -> None:
        self.run, self.dataset, self.log, self.progress = run, dataset, log, progress
        self.settings: TrainingConfig = run.config.training
        torch.manual_seed(run.config.seed + processes.rank())
        self.model = build_model(run.config, dataset, spread=True)
        self.objective = make_objective(run.config, self.model, dataset)
        self.names, self.parameters = zip(*self.model.named_parameters(), strict=True)
        self.optimizer = make_optimizer(
            self.settings, self.parameters, self.model.embeddings(), self.objective.sparse
        )
        self.device = next(self.model.parameters()).device.type
        self.precision = training_dtype(self.settings.precision, self.device)
        # Rows that are spread over processes are those of each, all else is the first's.
        self.spread = {id(p) for p in self.objective.sparse} if processes.size() > 1 else set()
        for parameter in self.parameters:
            if id(parameter) not in self.spread:
                processes.say(parameter.data)
        rows = torch.tensor(len(self.objective.order(run.config.seed, 0)))
        processes.add_up([rows])
        self.steps_an_epoch = math.ceil(int(rows) / self.objective.batch_size)
        self.total_steps = self.settings.epochs * self.steps_an_epoch
        # What a checkpoint holds beside tensors.
        self.epoch = self.step = self.stale = 0
        self.loss_sum = self.seconds = 0.0
        self.best_mrr = -1.0
        self.history: list[dict[str, float]] = []

    def begin_from(self, start: Run) -> None:
        """Take the weights of another run, validate them as epoch 0, and save them."""
        vocabulary, path = self.dataset.vocabulary, start.path / BEST
        weights = load_tensors(path)[0]
        missing = carry(self.model, weights, start.vocabulary, vocabulary, path)
        start_entities(self.model, missing)
        self.log.info("begun from %s; %d entities are new to it", start.path, len(missing))
        self._validate(math.nan)
        self.save()

    def fit(self) -> None:
        """Train from where the state is to the last epoch or until patience ends."""
        settings = self.settings
        begun = time.perf_counter() - self.seconds
        self.log.info(
            "%d steps an epoch, %d epochs, products in %s on %s",
            self.steps_an_epoch, settings.epochs, self.precision, self.device,
        )  # fmt: skip
        bar = tqdm(
            total=self.total_steps,
            initial=self.step,
            desc="train",
            unit="step",
            disable=not self.progress,
        )
        with bar, _stop_signals() as stopped:
            while self.epoch < settings.epochs and not self._out_of_patience():
                order = self.objective.order(self.run.config.seed, self.epoch)
                batches = self._batches(order)
                for rows in batches[self.step - self.epoch * self.steps_an_epoch :]:
                    self.loss_sum += self._step(rows)
                    self.step += 1
                    done = self.step - self.epoch * self.steps_an_epoch
                    bar.update()
                    bar.set_postfix(loss=f"{self.loss_sum / done:.3f}", **self._latest())
                    if processes.agree(stopped()):
                        self.seconds = time.perf_counter() - begun
                        self.save()
                        self.log.info("stopped after step %d; saved", self.step)
                        raise Interrupted
                self.epoch += 1
                mean_loss, self.loss_sum = self.loss_sum / self.steps_an_epoch, 0.0
                if self.epoch % settings.validate_every == 0 or self.epoch == settings.epochs:
                    self.seconds = time.perf_counter() - begun
                    self._validate(mean_loss)
                    bar.set_postfix(loss=f"{mean_loss:.3f}", **self._latest())
                self.seconds = time.perf_counter() - begun
                self.save()
        self.log.info("finished after %.0f s: best valid MRR %.4f", self.seconds, self.best_mrr)

    def _step(self, rows: Tensor) -> float:
        """One update; returns the loss."""
        self.model.train()
        if processes.size() > 1:
            # What is drawn is a function of step and process, so that a resumed run draws it too.
            torch.manual_seed(hash((self.run.config.seed, self.step, processes.rank())))
        worked = in_threads(self._gradients, self.objective.parts(rows))
        for i, parameter in enumerate(self.parameters):
            # In the order of the parts, whichever was done first.
            told = [grad for part in worked if (grad := part.gradients[i]) is not None]
            parameter.grad = _sum(told) if told else None
        loss, count = self._together(worked)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.step + 1} (epoch {self.epoch + 1}); the "
                "update was not made. Remedy: lower training.learning_rate, set "
                "training.clip_norm, or train with training.precision=float32"
            )
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.div_(count)
        if self.settings.clip_norm is not None:
            clip_norm(self.parameters, self.settings.clip_norm)
        set_rate(self.optimizer, learning_rate(self.settings, self.step, self.total_steps))
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # ours are made in order
            self.optimizer.step()
        return loss

    def _batches(self, order: Tensor) -> Sequence[Tensor]:
        """What this process asks in each step of an epoch: all have as many steps."""
        if processes.size() == 1:
            return order.split(self.objective.batch_size)
        return order.tensor_split(self.steps_an_epoch)

    def _together(self, worked: Sequence[_Worked]) -> tuple[float, float]:
        """The loss of all processes and of how many it is; their gradients are summed.

        Of rows that are spread, each process has the whole gradient of its own already.
        """
        about = [sum(part.loss for part in worked), sum(part.count for part in worked)]
        told = torch.tensor(about, dtype=torch.double)
        if processes.size() > 1:
            dense = [p for p in self.parameters if id(p) not in self.spread]
            for parameter in dense:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            processes.add_up([told, *(p.grad for p in dense if p.grad is not None)])
        total, count = told.tolist()
        return total / count, count

    def _gradients(self, part: Any) -> _Worked:
        """What a part of a batch adds to the step."""
        with self._autocast():
            loss, count = self.objective.loss(part)
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return _Worked(loss.item(), count, gradients)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def _validate(self, loss: float) -> None:
        """Rank valid, note it, and keep the weights if they are the best so far."""
        # Passes as in training: those of float32 take twice the time, for the same MRR to 0.001.
        half = isinstance(self.model, PathModel)
        with self._autocast() if half else nullcontext():
            found: Evaluation = evaluate_model(self.model.scorer(), self.dataset, "valid")
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
            weights = self._weights()
            if processes.rank() == 0:
                save_tensors(self.run.path / BEST, weights, {"epoch": self.epoch})
        if processes.rank() == 0:
            with atomic_write(self.run.path / HISTORY) as file:
                pd.DataFrame(self.history).to_csv(file, sep="\t", index=False)
        self.log.info(
            "epoch %d: loss %.4f, valid MRR %.4f, best %.4f, %.0f s", self.epoch,
            loss, found.mrr, self.best_mrr, self.seconds,
        )  # fmt: skip

    def _latest(self) -> dict[str, str]:
        if not self.history:
            return {}
        return {"valid_mrr": f"{self.history[-1]['valid_mrr']:.4f}"}

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.stale >= patience

    def save(self) -> None:
        """Write `last.safetensors`."""
        tensors = {f"model.{name}": t for name, t in self._weights().items()}
        tensors |= self._whole(pack_optimizer(self.optimizer, list(self.names)))
        tensors["generator"] = torch.get_rng_state()
        state = {name: getattr(self, name) for name in _STATE}
        if processes.rank() == 0:
            save_tensors(self.run.path / LAST, tensors, state)

    def _weights(self) -> Tensors:
        """The model's, of all entities, in the first process."""
        return self._whole(self.model.state_dict())

    def _whole(self, tensors: Tensors) -> Tensors:
        """Tables by entity put together, in the first process, of rows that are spread."""
        shards = getattr(self.model, "shards", None)
        if shards is None:
            return tensors
        return {n: shards.collect(t) if self._is_spread(n, t) else t for n, t in tensors.items()}

    def _own(self, tensors: Tensors) -> Tensors:
        """The reverse: of tables by entity, the rows that this process holds."""
        shards = getattr(self.model, "shards", None)
        if shards is None:
            return tensors
        return {n: shards.own_of(t) if self._is_spread(n, t) else t for n, t in tensors.items()}

    def _is_spread(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor, by its name in a checkpoint, has a row an entity."""
        spread = [
            n for n, p in zip(self.names, self.parameters, strict=True) if id(p) in self.spread
        ]
        return bool(tensor.dim()) and any(part in name for part in spread)

    def restore(self) -> None:
        """Read it back.

        Raises:
            RunError: when it is damaged or not of this run.
        """
        path = self.run.path / LAST
        tensors, state = load_tensors(path)
        try:
            for name in _STATE:
                setattr(self, name, state[name])
            tensors = self._own(tensors)
            weights = {n.removeprefix("model."): t for n, t in tensors.items() if n[:6] == "model."}
            load_weights(self.model, weights, path)
            unpack_optimizer(self.optimizer, list(self.names), tensors)
            torch.set_rng_state(tensors["generator"])
        except KeyError as error:
            raise RunError(f"{path}: incomplete checkpoint, without {error}") from error
        self.log.info("resumed at step %d", self.step)


def _sum(gradients: Sequence[Tensor]) -> Tensor:
    """Contiguous, though one may be a slice of another: fused optimisers read memory as it lies."""
    first, *others = gradients
    return sum(others, first if first.is_sparse else first.contiguous())


_STATE = ("epoch", "step", "stale", "loss_sum", "seconds", "best_mrr", "history")


@contextmanager
def _stop_signals() -> Iterator[Any]:
    """Turn SIGINT and SIGTERM into a flag that is read between steps; a second one is not held."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = [signal.signal(number, note) for number in watched]
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def log_to(path: Path) -> Iterator[logging.Logger]:
    """A logger that appends to a file, and to nothing else."""
    log = logging.Logger("kgtool.train", logging.INFO)
    if processes.rank():
        yield log
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        if not isinstance(error, Interrupted):
            log.error("failed: %s: %s", type(error).__name__, error)
        raise
    finally:
        handler.close()
