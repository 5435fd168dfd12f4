"""Search for good settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgtool.api.evaluate import evaluate
from kgtool.config import TUNE, Config, load_config, read_settings
from kgtool.data.dataset import SPLITS, KGDataset, check_not_empty
from kgtool.data.loaders import load_dataset
from kgtool.data.loaders.column_order import check_columns
from kgtool.training.space import base_settings, parse_space
from kgtool.training.tuning import Tuning
from kgtool.training.tuning import tune as search


def tune(
    config: Config | Mapping[str, Any] | str | Path,
    dataset: KGDataset | str | Path,
    out: str | Path,
    *,
    space: Mapping[str, Any] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
) -> Tuning:
    """Search for the settings with the best valid MRR, and score the best run on test.

    Each trial is a training with other settings, which Optuna proposes (`pip install
    'kgtool[tune]'`). Trials that fall behind are pruned. The best trial keeps its weights; of the
    others stay the configuration, the history and the log. The same call continues a search that
    was stopped, and several processes may make it at the same time: they share the trials.

    Args:
        config: the configuration: a `Config`, a dictionary of settings, a TOML file, or the name of
            a preset. Its section `[tune]` names the settings to choose.
        dataset: the data set or its path. Trials are compared on valid.
        out: the folder of the study: new, empty, or with a study of the same settings.
        space: the settings to choose, in place of `[tune]`, as in `{"dim": [16, 32],
            "training.learning_rate": {"log": [1e-3, 1e-1]}}`; see `kgtool.training.space`.
        trials: the number of trials of the study, over all processes and calls; without it and
            without `minutes`, 50. Trials with settings that do not fit each other do not count.
        minutes: the time of this process. The trial in work is saved then.
        progress: show progress bars and a line per trial.

    Returns:
        The trials, the importance of settings, and the best configuration and run. The best run is
        scored on test when no trial is left: once, unless later trials give another best run.

    Raises:
        ConfigError: if Optuna is not installed, a setting of the space does not exist, values do
            not fit, or the settings of many trials in a row are invalid.
        DataError: when train, valid or test has no triples.
        RunError: if the folder has other files, or a study of other settings or data.
        KGToolError: when a file cannot be written.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP. The trial in work is saved.
    """
    if isinstance(config, Config):
        written, where = config.model_dump(exclude_none=True), "the configuration"
    else:
        written, where = read_settings(config)
    section = written.get(TUNE) if space is None else space
    settings = load_config({key: value for key, value in written.items() if key != TUNE})
    chosen = parse_space(section, settings, where if space is None else "space")
    data = dataset if isinstance(dataset, KGDataset) else load_dataset(dataset)
    check_columns(data)
    check_not_empty(data, SPLITS)
    result = search(
        base_settings(written, settings), data, Path(out), chosen,
        trials=trials, minutes=minutes, progress=progress,
    )  # fmt: skip
    if result.run is None or not result.done:
        return result
    return replace(result, test=evaluate(result.run, data=data, progress=progress))
