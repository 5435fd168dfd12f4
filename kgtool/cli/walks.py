"""Walks: how well they are foretold, where one goes on, and the likeliest routes."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import Data, RunFolder, app
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError

Top = Annotated[int, typer.Option(min=1, help="Most to show.")]


@app.command()
def walks(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    count: Annotated[int, typer.Option("--walks", min=1, help="How many.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Draws them.")] = 0,
    data: Data = None,
) -> None:
    """How well a run foretells walks that take an edge of a split: the perplexity of a step.

    The run is one trained with one_path.walk_ratio. Beside it stands what counting train's edges
    foretells. walks.SPLIT.json in the run's folder holds what is printed.
    """
    from kgtool.api import walks as foretell
    from kgtool.cli.render.walks import perplexity_table
    from kgtool.data.dataset import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}. Remedy: one of {', '.join(SPLITS)}")
    found = foretell(run, split, data, count, seed)
    Terminal().print(perplexity_table(found))
    typer.echo(f"Written to {found.file}")


@app.command(name="next")
def next_command(
    run: RunFolder,
    walk: Annotated[
        list[str],
        typer.Argument(
            help="An entity; or an entity, a relation, an entity and so on. ^r is the relation r "
            "walked backwards.",
            show_default=False,
        ),
    ],
    top: Top = 10,
    data: Data = None,
) -> None:
    """Say where a walk goes on: its likeliest next steps, with their probabilities.

    The run is one trained with one_path.walk_ratio. A step that train holds is marked.
    """
    from kgtool.api import next_step
    from kgtool.cli.render.walks import steps_table

    Terminal().print(steps_table(next_step(run, walk, top, data)))


@app.command()
def routes(
    run: RunFolder,
    head: Annotated[str, typer.Argument(help="An entity's label.", show_default=False)],
    tail: Annotated[
        str | None, typer.Argument(help="An entity's label.", show_default=False)
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most relations; by default one_path.max_path_length.", show_default=False
        ),
    ] = None,
    top: Top = 10,
    data: Data = None,
) -> None:
    """Show the likeliest relation paths from a head, or from a head to a tail.

    The run is one trained with one_path.walk_ratio. A path's probability is that of a walk from the
    head, to the tail if there is one, which takes these relations and then ends; ^r is the relation
    r walked backwards. Where the path leads in train stands beside.
    """
    from kgtool.api import routes as likeliest
    from kgtool.cli.render.walks import routes_table

    Terminal().print(routes_table(likeliest(run, head, tail, length, top, data)))
