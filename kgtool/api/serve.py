"""Serve a run as a web page and a JSON API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgtool.api.predict import predictor_of
from kgtool.api.runs import AnyData, AnyRun
from kgtool.ops import end_progress

LOCAL = "127.0.0.1"


def serve(
    run: AnyRun,
    data: AnyData | None = None,
    labels: str | Path | None = None,
    *,
    types: str | Path | None = None,
    assumed_missing: int | None = None,
    host: str = LOCAL,
    port: int = 8000,
    echo: Callable[[str], None] = print,
) -> None:
    """Serve a web page and a JSON API until Ctrl-C: answers, scores, explanations, facts.

    Args:
        run, data, labels: as in `predict`.
        types, assumed_missing: as in `open_predictor`.
        host: the address to listen on; by default only this machine can connect.
        port: the port; 0 chooses a free one.
        echo: called with each line of progress.

    Raises:
        RunError, DataError: when run, data or labels cannot be used.
        ConfigError: for an `assumed_missing` below 1.
        KGToolError: when the address or port cannot be listened on.
    """
    # Not above: only a server needs the web framework.
    from kgtool.service.app import build_app
    from kgtool.service.desk import Desk
    from kgtool.service.serving import address, is_loopback, listen, names_of, running

    # First: a port in use is an error at once, not after a minute of fitting.
    with listen(host, port) as listener:
        if not is_loopback(listener):
            echo(f"Warning: anyone who can reach {host} can query the run and read the graph.")
        echo("Loading the run and its data ...")
        predictor = predictor_of(run, data, labels, types=types, assumed_missing=assumed_missing)
        echo("Fitting probabilities on valid, once per run ...")
        predictor.prepare()
        desk = Desk()
        app = build_app(predictor, names_of(host, listener), desk)
        try:
            with running(app, listener) as ended:
                end_progress()
                echo(f"Serving {predictor.run.place()} at {address(host, listener)} (Ctrl-C stops)")
                ended.wait()
        except KeyboardInterrupt:
            echo("Stopped.")
        finally:
            desk.close()
