"""Serve a run."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import SHARE, Data, Labels, RunFolder, command


@command("serve runs/mine --port 8080", panel=SHARE)
def serve(
    run: RunFolder,
    data: Data = None,
    labels: Labels = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default accepts only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 8000,
) -> None:
    """Serve a web page for queries and a JSON API until Ctrl-C.

    The page works offline. The API is documented at /openapi.json; it cannot change anything.
    """
    from kgtool.api.serve import serve as serve_run

    serve_run(run, data, labels, host=host, port=port, echo=typer.echo)
