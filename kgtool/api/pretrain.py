"""Pre-train a model on several graphs, to answer on graphs that it never saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kgtool.api.runs import AnyRun
from kgtool.api.train import train_by
from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.runs.run import Run


def pretrain(
    config: Config | Mapping[str, Any] | str | Path,
    dataset: KGDataset | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    init_from: AnyRun | None = None,
    track: str | Iterable[str] = (),
) -> Run:
    """Pre-train a model on the graphs of the section `[pretrain]`, and write a run folder.

    The run answers on any graph, with other entities and other relations: pass the graph as `data`
    to `kgtool.evaluate`, `kgtool.predict` and others. See `kgtool.training.pretraining`. Ctrl-C and
    `resume` work as in `kgtool.train`.

    Args:
        config: the configuration, with the sections `[pretrain]` and `[all_paths]` and
            `encoder.kind = "relations"`; see `kgtool.train`. The preset is `"pretrain"`.
        dataset: the data set that is held out, or its path. The model does not learn from it.
            Train gives the graph, valid selects the best weights.
        out: the run folder. It must not exist or must be empty, except with `resume`.
        resume: continue from the last checkpoint of `out`, with the same configuration and the same
            graphs.
        progress: show a progress bar.
        init_from: a run of such a model that gives the initial weights. A resumed run does not need
            it again.
        track: trackers that show the course of the training; see `kgtool.train`.

    Returns:
        The run with the weights of the best validation. Its `run.json` lists the graphs that it
        learned from under `sources`: name, fingerprint and share of the steps.

    Raises:
        ConfigError, DataError: when configuration or data cannot be used; when a graph of
            `[pretrain]` cannot be loaded, has no triples or is the data set that is held out.
        RunError: as `kgtool.train`; when a graph of a resumed run has changed.
        KGToolError, TrainingError, Interrupted: as `kgtool.train`.

    Warns:
        KGToolWarning: when a graph of `[pretrain]` has valid or test triples of the data set.
    """
    return train_by(
        config, dataset, out, True,
        resume=resume, progress=progress, init_from=init_from, track=track,
    )  # fmt: skip
