"""Pre-train a model on several graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import TRAIN, Columns, Overrides, command, data_of
from kgtool.cli.train import (
    InitFrom,
    Out,
    Resume,
    Track,
    load_for_training,
    report_training,
    was_restarted,
)


@command(
    "pretrain configs/pretrain.toml --data nell_v1_ind --out runs/any-graph",
    "evaluate runs/any-graph --data my-graph",
    panel=TRAIN,
)
def pretrain(
    config: Annotated[
        Path,
        typer.Argument(
            help="TOML file with a section pretrain, such as configs/pretrain.toml, or a preset.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data set that is held out: a folder or archive with train, valid and test, one "
            "file of triples, or a name from kgtool data list.",
            show_default=False,
        ),
    ] = None,
    columns: Columns = None,
    out: Out = None,
    resume: Resume = False,
    init_from: InitFrom = None,
    track: Track = None,
) -> None:
    """Pre-train a model on several graphs, to answer on graphs that it never saw.

    The section pretrain of CONFIG names the graphs to learn from, with their shares of the steps,
    and the share of synthetic graphs. --data is held out: the model does not learn from it, and its
    valid triples select the best weights.

    The run answers on any graph, with other entities and relations: pass --data to evaluate,
    predict, explain and other commands.

    Ctrl-C saves and stops; the same command with --resume continues exactly there.

    Several processes share each step: torchrun --nproc-per-node 4 -m kgtool pretrain ...
    """
    from kgtool.api.pretrain import pretrain as pretrain_run
    from kgtool.api.train import check_section
    from kgtool.config import load_config
    from kgtool.runs.tracking import trackers_of

    trackers_of(track or ())  # fail before the data are loaded
    settings = load_config(config, overrides or ())
    check_section(settings, pretraining=True)
    if data is not None:
        settings = settings.model_copy(update={"data": str(data)})
    dataset = load_for_training(data_of(settings.data, config), columns)
    out = out or Path("runs") / config.stem
    report_training(
        lambda: pretrain_run(
            settings, dataset, out,
            resume=resume or was_restarted(out), progress=True, init_from=init_from,
            track=track or (),
        ),
        out,
    )  # fmt: skip
