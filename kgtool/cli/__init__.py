"""The command line, a module for each command; `--help` lists them in the order of these imports.

`kgtool --help` answers at once: commands import torch, DGL and the like when they run.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from kgtool.cli.app import app, was_interrupted
from kgtool.cli.render.console import print_any_label
from kgtool.errors import KGToolError, KGToolWarning, harmless

# isort: off
from kgtool.cli import data  # noqa: F401
from kgtool.cli import train  # noqa: F401
from kgtool.cli import pretrain  # noqa: F401
from kgtool.cli import tune  # noqa: F401
from kgtool.cli import config  # noqa: F401
from kgtool.cli import extend  # noqa: F401
from kgtool.cli import evaluate  # noqa: F401
from kgtool.cli import compare  # noqa: F401
from kgtool.cli import predict  # noqa: F401
from kgtool.cli import complete  # noqa: F401
from kgtool.cli import explain  # noqa: F401
from kgtool.cli import export  # noqa: F401
from kgtool.cli import report  # noqa: F401
from kgtool.cli import serve  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. An error of the user is one message and an exit code, no traceback."""
    name = "kgtool"
    print_any_label()
    _print_warnings()
    try:
        with _team() as rank:
            name = f"kgtool, process {rank}" if rank else name
            app()
    except KGToolError as error:
        typer.secho(f"{name}: {harmless(str(error))}", fg="red", err=True)
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt):
        # Ctrl-C in the import of a compiled module comes out as another error.
        if not was_interrupted():
            raise
        sys.exit(130)


def _print_warnings() -> None:
    """Print a warning for the user as one line, as errors are."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, KGToolWarning):
            typer.secho(f"kgtool: {harmless(str(message))}", fg="yellow", err=True)
        else:
            before(message, category, *place, **more)

    warnings.showwarning = show


@contextmanager
def _team() -> Iterator[int]:
    """Join the processes of torchrun, if it started this one; only the first prints.

    Yields the rank of this process. One process prints an error that all of them have.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield 0
        return
    from kgtool.distributed import process_group

    with process_group.joined_group():
        rank = process_group.rank()
        try:
            with (
                Path(os.devnull).open("w", encoding="utf-8") as nowhere,
                redirect_stdout(nowhere if rank else sys.stdout),
            ):
                yield rank
        except KGToolError as error:
            if process_group.is_first_report(str(error)):
                raise
            sys.exit(error.exit_code)
