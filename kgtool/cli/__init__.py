"""The command line. Each module holds some commands; they show in the order they are imported."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import typer

from kgtool.cli.app import app
from kgtool.errors import KGToolError, harmless

# isort: off
from kgtool.cli import training  # noqa: F401
from kgtool.cli import config  # noqa: F401
from kgtool.cli import evaluation  # noqa: F401
from kgtool.cli import paths  # noqa: F401
from kgtool.cli import report  # noqa: F401
from kgtool.cli import predicting  # noqa: F401
from kgtool.cli import serving  # noqa: F401
from kgtool.cli import answers  # noqa: F401
from kgtool.cli import walks  # noqa: F401
from kgtool.cli import data  # noqa: F401
from kgtool.cli import splitting  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a user's error is one message and an exit code, not a traceback."""
    name = "kgtool"
    try:
        with _team() as rank:
            name = f"kgtool, process {rank}" if rank else name
            app()
    except KGToolError as error:
        typer.secho(f"{name}: {harmless(str(error))}", fg="red", err=True)
        sys.exit(error.exit_code)


@contextmanager
def _team() -> Iterator[int]:
    """Join the processes that torchrun has started, if it has: the first alone prints.

    An error that all meet is told by one. Gives which this one is.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield 0
        return
    from kgtool.distributed import process_group

    with process_group.joined_group():
        rank = process_group.rank()
        try:
            with (
                Path(os.devnull).open("w") as nowhere,
                redirect_stdout(nowhere if rank else sys.stdout),
            ):
                yield rank
        except KGToolError as error:
            if process_group.is_first_report(str(error)):
                raise
            sys.exit(error.exit_code)
