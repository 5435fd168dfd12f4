"""Serve a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    SHARE,
    AssumedMissing,
    Data,
    Features,
    Labels,
    RunOrData,
    command,
    data_with,
)


@command("serve runs/mine --port 8080", panel=SHARE)
def serve(
    run: RunOrData,
    data: Data = None,
    features: Features = None,
    labels: Labels = None,
    types: Annotated[
        Path | None,
        typer.Option(
            help="Table with a column of labels and one of types, which the page shows. "
            "FILE:ID,TYPE names the columns.",
            show_default=False,
        ),
    ] = None,
    assumed_missing: AssumedMissing = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default accepts only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 8000,
) -> None:
    """Serve a web page and a JSON API until Ctrl-C: answers, scores, explanations, facts.

    The page works offline. The API is described at /docs; it cannot change anything.
    """
    from kgtool.api.serve import serve as serve_run

    serve_run(
        run, data_with(data, features), labels, types=types, assumed_missing=assumed_missing,
        host=host, port=port, echo=typer.echo,
    )  # fmt: skip
