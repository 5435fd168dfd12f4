"""Old names of commands and options: an error that gives the new name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kgtool.errors import ConfigError

COMMANDS = {
    "inspect": "kgtool data inspect",
    "convert": "kgtool data convert",
    "split": "kgtool data split",
    "relations": "kgtool evaluate RUN --task relations",
    "classify": "kgtool evaluate RUN --task triples",
    "paths": "kgtool evaluate RUN --task paths",
    "walks": "kgtool evaluate RUN --task walks",
    "metrics": "kgtool evaluate --ranks FILE",
    "next": "kgtool predict RUN --task next",
    "routes": "kgtool predict RUN --task routes",
    "neighbours": "kgtool predict RUN --task neighbours",
}
OPTIONS = {
    "--address": "--url",
    "--all": "--include-known",
    "--by": "--group-by",
    "--forms": "--formats",
    "--length": "--max-length",
    "--picture": "--plot",
    "--queries": "--num-queries",
    "--sampled": "--sample-negatives",
    "--start": "--init-from",
    "--typed": "--filter-types",
    "--walks": "--num-walks",
    "--with": "--ensemble",
}


def refuse_old_command(name: str) -> None:
    """Raise a ConfigError that names the new command, if this is an old one."""
    if name in COMMANDS:
        raise ConfigError(f"`kgtool {name}` is now `{COMMANDS[name]}`")


def refuse_old_options(words: Sequence[str], options: Iterable[str]) -> None:
    """Raise a ConfigError that names the new option, if the words of a command have an old one.

    Args:
        words: the arguments of the command.
        options: the options that the command has.
    """
    known = set(options)
    for word in words:
        if word == "--":
            return
        old = word.split("=")[0]
        if old not in known and OPTIONS.get(old) in known:
            raise ConfigError(f"`{old}` is now `{OPTIONS[old]}`")
