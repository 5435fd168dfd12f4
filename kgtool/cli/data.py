"""Look at data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kgtool.cli.app import app


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="Folder, .zip or .tar.gz of triples.", show_default=False)
    ],
) -> None:
    """Load a data set and print what it holds, and what is odd about it."""
    from kgtool.loaders import load_with_report

    Console().print(load_with_report(path)[1].render())
