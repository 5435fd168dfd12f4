"""The command line. Each module holds some commands; they show in the order they are imported."""

import sys

import typer

from kgtool.cli.app import app
from kgtool.errors import KGToolError

# isort: off
from kgtool.cli import training  # noqa: F401
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
    try:
        app()
    except KGToolError as error:
        typer.secho(f"kgtool: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
