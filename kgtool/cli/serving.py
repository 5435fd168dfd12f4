"""Serve a run to browsers."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import Data, Labels, RunFolder, app


@app.command()
def serve(
    run: RunFolder,
    data: Data = None,
    labels: Labels = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default only this machine can ask.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")
    ] = 8000,
) -> None:
    """Serve a page to ask a run with, and a JSON API, until Ctrl-C.

    The page needs no network. The API is documented at /openapi.json; nothing can be changed by it.
    """
    from kgtool.api import serve as serve_run

    serve_run(run, data, labels, host, port, typer.echo)
