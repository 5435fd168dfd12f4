"""Data sets: list, fetch and inspect them, convert and split files of triples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    DATA,
    OUTPUT,
    Columns,
    Delimiter,
    Format,
    Group,
    Header,
    Labels,
    MergeLabels,
    Overwrite,
    SkipBadLines,
    Truth,
    app,
    command,
    names_of,
    print_next,
    reading_of,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError, DataError, harmless, quoted

data = typer.Typer(
    cls=Group, help="List, fetch, inspect, convert and split data sets.", no_args_is_help=True
)
app.add_typer(
    data, name="data", rich_help_panel=DATA, epilog="Example: kgtool data inspect datasets/families"
)
Name = Annotated[str, typer.Argument(help="Name from kgtool data list.", show_default=False)]
Place = Annotated[
    Path,
    typer.Argument(
        help="Folder or archive with train, valid and test in any format, or a data set of "
        "OpenKE, LibKGE, PyKEEN or DGL-KE; one file of triples; or a name from kgtool data list.",
        show_default=False,
    ),
]


@command("data list", "data list fb237", group=data, name="list", long=False)
def list_data_sets(
    part: Annotated[
        str, typer.Argument(help="Only names with this text, in any case.", show_default=False)
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for all columns, with addresses and licences: .tsv, .parquet or .jsonl.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """List the public data sets that can be fetched by name.

    A ? is a number that nobody published. The environment variable KGTOOL_REGISTRY names a TOML
    file with more data sets, in the format of those in kgtool/data/registry/catalogue.
    """
    from kgtool.api.data import data_sets
    from kgtool.cli.render.data_sets import data_sets_table
    from kgtool.data.registry.cache import cache_folder
    from kgtool.storage.files import refuse_existing
    from kgtool.storage.tables import save_table

    if out is not None:
        refuse_existing([out], overwrite)
    found = data_sets(part)
    if not len(found):
        raise DataError(
            f"no data set has {quoted(part)} in its name. Remedy: kgtool data list shows all names."
        )
    terminal = Terminal()
    terminal.print(data_sets_table(found, cache_folder(), terminal.width))
    if out is not None:
        save_table(found, out)
        typer.echo(f"Written to {out}")


@command("data info FB15k-237", group=data, long=False)
def info(name: Name) -> None:
    """Print the size, licence, source and reference of a public data set."""
    from kgtool.cli.render.data_sets import data_set_list
    from kgtool.data.registry.cache import cached_file, is_fetched, read_record
    from kgtool.data.registry.entries import find_entry

    entry = find_entry(name)
    record = read_record(entry)
    pins = record.sources if record else {}
    Terminal().print(data_set_list(entry, cached_file(entry), pins, is_fetched(entry)))


@command("data fetch FB15k-237", "data fetch fb237_v1 fb237_v1_ind", group=data)
def fetch(
    names: Annotated[
        list[str], typer.Argument(help="Names from kgtool data list.", show_default=False)
    ],
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Mirror to fetch from; known checksums must match.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch public data sets into the cache, unless the cache has them undamaged.

    Afterwards a name can be used in place of a path. The environment variable KGTOOL_CACHE names
    another cache folder. Where the SHA-256 of a source is not known, the first fetch pins it, and
    later fetches must get the same bytes.
    """
    from kgtool.api.data import fetch as fetch_data_set
    from kgtool.data.registry.cache import needs_record, record_file
    from kgtool.data.registry.entries import find_entry

    chosen = [find_entry(name) for name in names]
    if url is not None and len(names) > 1:
        raise ConfigError("--url is the mirror of one data set. Remedy: fetch one at a time.")
    for entry in chosen:
        typer.echo(f"{entry.name} is {fetch_data_set(entry.name, url, progress=True)}")
        if needs_record(entry) and not all(s.sha256 for s in entry.sources(entry.address)):
            typer.echo(
                f"Its SHA-256 is not known: the first fetch pinned it in {record_file(entry)}"
            )
        if entry.licence:
            typer.echo(f"Licence: {entry.licence}")
    print_next("data", "inspect", chosen[-1].name)


@command("data inspect my-graph", "data inspect triples.csv", group=data)
def inspect(
    path: Place,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
    truth: Truth = None,
    skip_bad_lines: SkipBadLines = False,
    merge_labels: MergeLabels = None,
) -> None:
    """Load a data set and print its size and its problems.

    Problems are duplicates, leaks, unseen entities, labels that are nearly equal, and columns that
    may not be head, relation, tail.
    """
    from kgtool.data.loaders import load_with_report
    from kgtool.data.loaders.read import LISTED

    reading = reading_of(
        format, columns, delimiter, header, truth=truth, skip_bad_lines=skip_bad_lines,
        merge_labels=merge_labels,
    )  # fmt: skip
    report = load_with_report(path, reading=reading)[1]
    Terminal().print(report.render())
    if len(report.bad_lines) > LISTED:
        typer.echo(f"All {len(report.bad_lines):,} bad lines:")
        for line in report.bad_lines:
            typer.echo(harmless(str(line)))


@command("data show my-graph aspirin --types nodes.csv", group=data)
def show(
    path: Place,
    entity: Annotated[
        str, typer.Argument(help="Label or readable name of an entity.", show_default=False)
    ],
    top: Annotated[
        int, typer.Option(min=1, help="Most entities of each relation, and most neighbours.")
    ] = 5,
    labels: Labels = None,
    types: Annotated[
        str | None,
        typer.Option(
            help="Table with a column of labels and one of types. FILE:ID,TYPE names the columns.",
            show_default=False,
        ),
    ] = None,
    columns: Columns = None,
) -> None:
    """Show what a data set holds about an entity.

    That is its type, its degree, its facts by relation in both directions, and its neighbours.
    """
    from kgtool.api.data import show as facts_of
    from kgtool.cli.render.facts import facts_table

    reading = reading_of(columns=columns)
    Terminal().print(facts_table(facts_of(path, entity, labels, types, reading=reading), top))


@command("data convert their-graph --out my-graph --columns gene,effect,disease", group=data)
def convert(
    path: Place,
    out: Annotated[
        Path, typer.Option(help="Folder for the files.", show_default=False, rich_help_panel=OUTPUT)
    ],
    to: Annotated[
        str,
        typer.Option(
            help="Format to write: tsv, or dgl (dgl.load_graphs reads it too).",
            rich_help_panel=OUTPUT,
        ),
    ] = "tsv",
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
    truth: Truth = None,
    skip_bad_lines: SkipBadLines = False,
    merge_labels: MergeLabels = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a data set to train.txt, valid.txt and test.txt, or to DGL graphs.

    Other commands read the result without options. Negatives are converted too: with --truth, those
    of valid and test become valid_negatives.txt and test_negatives.txt. Duplicates within a split
    are removed.
    """
    from kgtool.api.data import convert as convert_data

    reading = reading_of(
        format, columns, delimiter, header, truth=truth, skip_bad_lines=skip_bad_lines,
        merge_labels=merge_labels,
    )  # fmt: skip
    report, files = convert_data(path, out, reading, to, overwrite=overwrite)
    Terminal().print(report.render())
    for file in files:
        typer.echo(f"Written to {file}")
    print_next_training(out)


@command(
    "data split triples.csv --out my-graph",
    "data split triples.csv --out my-graph --columns gene,effect,disease --keep-columns year",
    group=data,
)
def split(
    files: Annotated[
        list[str],
        typer.Argument(help="Files of triples; - is standard input.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the new data set.", show_default=False, rich_help_panel=OUTPUT
        ),
    ],
    valid: Annotated[
        float, typer.Option(help="Share of the triples for valid.", rich_help_panel="How to split")
    ] = 0.1,
    test: Annotated[
        float, typer.Option(help="Share of the triples for test.", rich_help_panel="How to split")
    ] = 0.1,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed.", rich_help_panel="How to split")
    ] = 0,
    inductive: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Put this share of the entities in a second graph, in the folder OUT_ind.",
            show_default=False,
            rich_help_panel="How to split",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Split by the time in this column: the latest triples are test.",
            show_default=False,
            rich_help_panel="How to split",
        ),
    ] = None,
    remove_leaks: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Among relations that share this part of their pairs, such as 0.97, keep only the "
            "largest.",
            show_default=False,
            rich_help_panel="How to split",
        ),
    ] = None,
    keep_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Further columns that the new files get too; other commands leave them out.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    allow_unseen: Annotated[
        bool,
        typer.Option(
            "--allow-unseen",
            help="Fill up valid and test by triples with an entity or relation that train lacks.",
            rich_help_panel="How to split",
        ),
    ] = False,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
    truth: Truth = None,
    skip_bad_lines: SkipBadLines = False,
    merge_labels: MergeLabels = None,
    overwrite: Overwrite = False,
) -> None:
    """Split loose triples into a data set with train, valid and test.

    Held-out triples are random; their entities and relations stay in train, and triples between the
    same two entities stay together. With --time, the latest triples are held out. Triples in no
    split go to left_out.txt, each with the reason.
    """
    from kgtool.api.split import split as split_triples
    from kgtool.cli.render.splitting import split_table

    reading = reading_of(
        format, columns, delimiter, header, truth=truth, skip_bad_lines=skip_bad_lines,
        merge_labels=merge_labels,
    )  # fmt: skip
    division = split_triples(
        files, out, valid=valid, test=test, seed=seed, inductive=inductive, time=time,
        remove_leaks=remove_leaks, keep_columns=names_of(keep_columns) if keep_columns else (),
        allow_unseen=allow_unseen, reading=reading, overwrite=overwrite,
    )  # fmt: skip
    Terminal().print(split_table(division))
    for folder in division.folders:
        typer.echo(f"Written to {folder}")
    print_next_training(division.folders[0])


def print_next_training(folder: Path) -> None:
    """Print how a model is trained on a new data set."""
    print_next("train", "families", data=folder, out=Path("runs") / folder.name)
