"""Train a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kgtool.api.runs import AnyRun, unwrapped
from kgtool.config import Config, load_config
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders import load_dataset
from kgtool.data.loaders.column_order import check_columns
from kgtool.errors import ConfigError
from kgtool.runs.run import Run
from kgtool.runs.tracking import trackers_of
from kgtool.training.trainer import train as train_run


def train(
    config: Config | Mapping[str, Any] | str | Path,
    dataset: KGDataset | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    init_from: AnyRun | None = None,
    track: str | Iterable[str] = (),
) -> Run:
    """Train a model and write a run folder; see `kgtool.training.trainer.train`.

    After Ctrl-C, training finishes the step, saves a checkpoint and stops. A resumed run continues
    exactly. The folder of a run on data in memory holds the triples.

    Args:
        config: the configuration: a `Config`, a dictionary of settings as in
            `{"dim": 32, "training": {"epochs": 5}}`, a TOML file, or the name of a preset.
        dataset: the data set or its path. Train gives the graph and the loss, valid selects the
            best weights.
        out: the run folder. It must not exist or must be empty, except with `resume`.
        resume: continue from the last checkpoint of `out`, or from the previous one if the last is
            damaged; `config` must be the configuration of that run.
        progress: show a progress bar.
        init_from: a run that gives the initial weights, matched by label: see
            `kgtool.training.warm_start`; or `"pretrained"`, for the weights that are shipped with
            kgtool. A resumed run does not need it again.
        track: trackers that show the course of the training: one or more of `"tensorboard"`,
            `"mlflow"` and `"wandb"`. A resumed run continues the same tracked run; training goes
            on without a tracker that fails.

    Returns:
        The run with the weights of the best validation.

    Raises:
        ConfigError, DataError: when configuration or data cannot be used, the configuration has a
            section `[pretrain]` (see `kgtool.pretrain`), train or valid has no triples, the columns
            of the data may not be head, relation, tail, or the package of a tracker is not
            installed; before anything is written.
        RunError: when the folder is not empty or another process uses it, there is no run to
            resume, the run is damaged, or the initial weights do not fit.
        KGToolError: before the first step, when the folder is not writable.
        TrainingError: when the loss is not finite (the step changes no weights), or when a
            checkpoint cannot be written, for example on a full disk (the previous one stays).
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP.
    """
    return train_by(
        config, dataset, out, False,
        resume=resume, progress=progress, init_from=init_from, track=track,
    )  # fmt: skip


def train_by(
    config: Config | Mapping[str, Any] | str | Path,
    dataset: KGDataset | str | Path,
    out: str | Path,
    pretraining: bool,
    *,
    resume: bool,
    progress: bool,
    init_from: AnyRun | None,
    track: str | Iterable[str],
) -> Run:
    """What `train` and `kgtool.pretrain` do; see `train`.

    Args:
        config, dataset, out, resume, progress, init_from, track: those of `train`.
        pretraining: whether the configuration must have a section `[pretrain]`, or none.
    """
    trackers_of(track)  # fail before the data are loaded
    settings = config if isinstance(config, Config) else load_config(config)
    check_section(settings, pretraining)
    data = dataset if isinstance(dataset, KGDataset) else load_dataset(dataset)
    check_columns(data)
    start = None if init_from is None else unwrapped(init_from)
    return train_run(
        settings, data, out, resume=resume, progress=progress, init_from=start, track=track
    )


def check_section(config: Config, pretraining: bool) -> None:
    """Check whether a configuration has the section `[pretrain]`.

    Raises:
        ConfigError: if it is for the other of train and pretrain.
    """
    if config.pretrain and not pretraining:
        raise ConfigError(
            "train learns from the data set of the run, and the configuration has a section "
            "[pretrain] with other graphs. Remedy: use kgtool pretrain (kgtool.pretrain in "
            "Python), or leave the section out."
        )
    if pretraining and not config.pretrain:
        raise ConfigError(
            "pretrain learns from the graphs of the section [pretrain], and the configuration has "
            "none. Remedy: name graphs as in configs/pretrain.toml, or use kgtool train "
            "(kgtool.train in Python)."
        )
