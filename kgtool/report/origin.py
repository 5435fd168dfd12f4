"""Where the weights of a run come from: training, selection, time, machine, seed and command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgtool.config import load_config
from kgtool.errors import RunError
from kgtool.runs.pretrained import FOLDER, pretrained_names
from kgtool.runs.run import PRETRAINED, Run


@dataclass(frozen=True)
class Origin:
    """The origin of a run's weights.

    Attributes:
        trained: how they were made, in sentences.
        selected: how they were selected, in sentences.
        seconds: wall time of the training with its validations; None if nothing was trained.
        seed: random seed of the training.
        machine: the machine on which the run was begun; None if the run does not record it.
        command: the command that makes such weights again; None if it cannot be known.
        sources: the graphs of a pre-training, with their shares of the steps.
        shipped: whether the weights come with kgtool, and nothing was trained.
    """

    trained: str
    selected: str
    seconds: float | None
    seed: int
    machine: str | None
    command: str | None
    sources: tuple[tuple[str, float], ...] = ()
    shipped: bool = False


def origin_of(run: Run) -> Origin:
    """The origin of a run's weights.

    Raises:
        RunError: if a file of the run is missing or damaged.
    """
    info, history = run.read_info(), run.history()
    if name := info.get("pretrained"):
        shares = _shares(name)
        learned = "pre-trained on synthetic graphs."
        if shares:
            learned = (
                "pre-trained on other graphs. On a graph of the same sources, figures are too good."
            )
        return Origin(
            "Nothing was trained on this graph. "
            f"The weights “{name}” come with kgtool and were {learned}",
            f"No validation on this graph selected the weights; kgtool/pretrained/{name}.md has "
            "their own model card.",
            None, run.config.seed, None, None, shares, shipped=True,
        )  # fmt: skip
    start, extended = info.get("start"), info.get("extended")
    if extended:
        trained = f"Extended from {extended.get('run')} by new triples. It was not trained on them."
    elif info.get("sources"):
        trained = "Pre-trained on other graphs. The data set of the run was held out."
    else:
        trained = "Trained on the train split."
        if start:
            place = start.get("run")
            whose = "that come with kgtool" if place == PRETRAINED else f"of {place}"
            trained += f" Training began from the weights {whose}."
    return Origin(
        trained, _selection(run, history), history[-1]["seconds"] if history else None,
        run.config.seed, info.get("machine"), _command(run, info), _sources(run, info),
    )  # fmt: skip


def _shares(name: str) -> tuple[tuple[str, float], ...]:
    """The graphs that shipped weights learned from, with their shares of the steps."""
    if name not in pretrained_names():
        return ()
    pretrain = load_config(FOLDER / f"{name}.toml").pretrain
    return tuple(pretrain.shares.items()) if pretrain else ()


def _selection(run: Run, history: list[dict[str, Any]]) -> str:
    if not history:
        return "The run has no validation yet. Its weights are those of the last saved step."
    best = run.best_validation()
    own = [row for row in history if row.get("part") == history[-1].get("part")]
    among = f"the best of {len(own)} validations" if len(own) > 1 else "the only validation"
    return (
        f"The weights are those of {among}, after epoch {best['epoch']:.0f}: filtered MRR "
        f"{best['valid_mrr']:.4f} on valid. Test selected nothing."
    )


def _command(run: Run, info: Mapping[str, Any]) -> str | None:
    """The command that makes such weights again, from the configuration in the run's folder.

    An extended run does not keep the files that it was given, and data in memory have no place.
    """
    place = run.config.data or info.get("data")
    if info.get("extended") or place is None:
        return None
    words = ["pretrain" if run.config.pretrain else "train", run.path / "config.toml"]
    # A configuration with data names them itself, relative to where kgtool was called.
    words += [] if run.config.data else ["--data", place]
    reading = info.get("loading", {}).get("reading")
    if isinstance(reading, dict) and isinstance(reading.get("columns"), list):
        words += ["--columns", ",".join(map(str, reading["columns"]))]
    if (start := info.get("start")) and start.get("run") != run.config.init_from:
        words += ["--init-from", start.get("run")]
    return shlex.join(["kgtool", *map(str, words), "--out", str(Path("runs") / "again")])


def _sources(run: Run, info: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    try:
        return tuple((str(each["name"]), float(each["share"])) for each in info.get("sources", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.path / 'run.json'}: invalid content in sources. Remedy: restore the file."
        ) from error
