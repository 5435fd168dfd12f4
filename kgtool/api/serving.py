"""Serve a run to browsers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgtool.api.predicting import open_predictor
from kgtool.data.dataset import KGDataset
from kgtool.inference.predictor import Predictor
from kgtool.runs.run import Run

LOCAL = "127.0.0.1"


def serve(
    run: Run | str | Path | Predictor,
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
    host: str = LOCAL,
    port: int = 8000,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a page to ask a run with, and a JSON API, until Ctrl-C.

    Args:
        run, data, labels: as of `predict`.
        host: the address to listen on; by default only this machine is answered.
        port: the port; 0 for any that is free.
        tell: told what happens, a line at a time.

    Raises:
        RunError, DataError: when run, data or names cannot be used.
        KGToolError: when it cannot listen there.
    """
    # Not before: what only serves need not be imported to train.
    from kgtool.service.app import build_app
    from kgtool.service.desk import Desk
    from kgtool.service.serving import address, is_loopback, listen, names_of, running

    # First of all: a port in use is told at once, not after a minute of fitting.
    with listen(host, port) as listener:
        if not is_loopback(listener):
            tell(f"Warning: whoever can reach this machine at {host} can ask, and read the graph.")
        tell("Loading the run and its data ...")
        asked = run if isinstance(run, Predictor) else open_predictor(run, data, labels)
        tell("Making what answers need, fitted on valid once ...")
        asked.prepare()
        desk = Desk()
        app = build_app(asked, names_of(host, listener), desk)
        try:
            with running(app, listener) as thread:
                tell(f"Serving {asked.run.path} at {address(host, listener)} (Ctrl-C stops)")
                thread.join()
        except KeyboardInterrupt:
            tell("Stopped.")
        finally:
            desk.close()
