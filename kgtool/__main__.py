"""The command `kgtool`, also `python -m kgtool`."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C before a command has begun ends the process at once."""
    # Python's own handler would print a traceback through the imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kgtool.cli import main as run

    run()


if __name__ == "__main__":
    main()
