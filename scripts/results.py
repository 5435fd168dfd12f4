"""Reproduce the tables of docs/results/: train and evaluate models, print a table as Markdown.

    python scripts/results.py links --data FOLDER --runs runs/results

FOLDER contains the data sets under their names: FB15k-237.tar.gz, umls.tar.gz and so on, or
folders, such as GraIL's fb237_v1 and fb237_v1_ind. The script skips rows whose data set is missing,
and prints a message. It uses what RUNS already contains: it resumes a training that was
interrupted, and reads existing results.

Rows of small data sets have five seeds, 0 to 4: the table gives the mean, the standard deviation of
the sample, and the median of the minutes. Minutes are processor time of training and its
validations, and wall time where a training was resumed. The column "commit" has the commit of the
source that trained the models; a "+" says that files differed from it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from time import process_time
from typing import Any

import kgtool
from kgtool.errors import KGToolError
from kgtool.evaluation.baselines import BASELINES
from kgtool.storage.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
SHOWN = sys.stderr.isatty()
MADE = "made.json"  # in a run's folder: the commit and the processor seconds of its training
UNKNOWN = "unknown"  # a commit without git
METRICS = ("mrr", "hits@1", "hits@10")
FIVE = 5  # seeds of small data sets
FINE_TUNE = "fine-tune"
LIBKGE = ("transe", "rotate")  # presets of embeddings that other toolkits have, too
# Settings of single rows.
NO_ENCODER = ("encoder.layers=0",)
PATH_QUERIES = (*NO_ENCODER, "one_path.path_query_ratio=0.25", "one_path.max_path_length=5")
FEW_EDGES = ("all_paths.edge_dropout=0.0", "training.epochs=20", "training.validate_every=2")
ONE_EPOCH = ("training.epochs=1",)
FED = (*ONE_EPOCH, "encoder.layers=1")


@dataclass(frozen=True)
class Model:
    """A model: a preset, or one of its parts, changed by settings, on a data set."""

    data: str
    preset: str
    settings: tuple[str, ...] = ()
    part: str | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of its run's folder."""
        part = (self.part,) if self.part else ()
        seed = (f"seed={self.seed}",) if self.seed else ()
        return ",".join((f"{self.data}.{self.preset}", *part, *self.settings, *seed))

    @property
    def config(self) -> kgtool.Config:
        """Its configuration."""
        config = kgtool.load_config(ROOT / "configs" / f"{self.preset}.toml")
        if self.part:
            config = config.parts[self.part]
        settings = (*self.settings, f"seed={self.seed}")
        return kgtool.load_config(config.model_dump(exclude_none=True), settings)

    @property
    def label(self) -> str:
        """Its label in the table."""
        return " ".join((f"`{self.preset}`", *(f"`{setting}`" for setting in self.settings)))

    def seeds(self, count: int) -> list[Model]:
        """The model with each of the first seeds."""
        return [replace(self, seed=seed) for seed in range(count)]


CODEX, FB_LARGE = Model("codex-s", "codex-s"), Model("FB15k-237", "fb15k-237-large")
FB_GRU = Model("FB15k-237", "fb15k-237-one-path", NO_ENCODER)
FB_PATHS = Model("FB15k-237", "fb15k-237-one-path", PATH_QUERIES)
WN, WN_ONE_PATH = Model("WN18RR", "wn18rr"), Model("WN18RR", "wn18rr-one-path")
WALKS = (
    Model("umls", "umls-one-path", ("one_path.walk_ratio=1.0", "training.epochs=60")),
    Model("families", "families-one-path", ("one_path.walk_ratio=0.5",)),
)


class Missing(Exception):
    """A data set is not in the given folder."""


@dataclass(frozen=True)
class Lab:
    """The folders of data sets and of runs."""

    data: Path | None
    runs: Path

    def place(self, name: str) -> Path:
        """The path of a data set; its name may be in any case."""
        names = [f"{name}{ending}".casefold() for ending in ("", ".tar.gz", ".zip")]
        for folder in (self.data, ROOT / "datasets"):
            files = folder.iterdir() if folder and folder.is_dir() else ()
            found = [each for each in files if each.name.casefold() in names]
            if found:
                return min(found, key=lambda each: names.index(each.name.casefold()))
        raise Missing(name)

    def trained(self, model: Model) -> kgtool.Run:
        """The run of a model; trains it to the last epoch if needed."""
        out, data = self.runs / model.name, self.place(model.data)
        run = kgtool.Run.open(out) if (out / "config.toml").exists() else None
        if run is None or not _ended(run):
            print(f"training {out}", file=sys.stderr)
            resumed, start = run is not None, process_time()
            run = kgtool.train(model.config, kgtool.load_dataset(data), out, resume=resumed)
            spent = run.history()[-1]["seconds"] if resumed else process_time() - start
            write_json(out / MADE, {"commit": commit(), "seconds": spent})
        return run

    def results(self, kind: str, run: kgtool.Run, write: Callable[[], object]) -> dict[str, Any]:
        """The content of a run's file; calls `write` first if the file does not exist."""
        file = run.path / kind
        if not file.exists():
            print(f"writing {file}", file=sys.stderr)
            write()
        content: dict[str, Any] = read_json(file)
        return content

    def ranked(self, run: kgtool.Run, added: kgtool.Run | None, split: str) -> dict[str, Any]:
        """The metrics of link prediction."""
        ensemble = (added,) if added else ()
        return self.results(
            f"metrics.{prefix(added)}{split}.json",
            run,
            lambda: kgtool.evaluate(run, split, ensemble=ensemble, progress=SHOWN),
        )

    def valid_mrr(self, run: kgtool.Run, added: kgtool.Run | None) -> float:
        """The MRR on valid of the best validation, or with another run's scores added."""
        if added:
            return float(self.ranked(run, added, "valid")["both"]["realistic"]["mrr"])
        return float(run.best_validation()["valid_mrr"])


def _ended(run: kgtool.Run) -> bool:
    """Whether its training reached the last epoch; the presets do not stop early."""
    if not (run.path / "history.tsv").exists():
        return False
    return int(run.history()[-1]["epoch"]) == run.config.training.epochs


def prefix(added: kgtool.Run | None) -> str:
    """The part of a result file's name for a run whose scores are added."""
    return f"with-{added.path.name}." if added else ""


def both(model: Model, other: Model | None) -> str:
    """The label of a model, and of the other model whose scores are added, if any."""
    return f"{model.label} with {other.label}" if other else model.label


def commit() -> str:
    """The commit of the source, with a "+" where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def commits(*runs: kgtool.Run | None) -> str:
    """The commits that trained the runs, each once."""
    return ", ".join(dict.fromkeys(made(run)["commit"] for run in runs if run))


def made(run: kgtool.Run) -> dict[str, Any]:
    """The commit and the seconds of a run's training; the wall time of other runs than ours."""
    file = run.path / MADE
    if file.exists():
        content: dict[str, Any] = read_json(file)
        return content
    return {"commit": UNKNOWN, "seconds": run.history()[-1]["seconds"]}


def shown(values: Iterable[float]) -> str:
    """A value, or the mean and the standard deviation of several."""
    numbers = list(values)
    deviation = f" ± {stdev(numbers):.3f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.3f}{deviation}"


def minutes(runs: Iterable[kgtool.Run]) -> str:
    """The median minutes of training, including validation."""
    return f"{median(made(run)['seconds'] for run in runs) / 60:.1f}"


def link_row(lab: Lab, model: Model, other: Model | None = None, seeds: int = 1) -> Sequence[str]:
    """Link prediction by a model, or with another model's scores added."""
    runs, added = [lab.trained(each) for each in model.seeds(seeds)], None
    spent = minutes(runs)
    if other:
        added = lab.trained(other)
        spent = f"{spent} + {minutes([added])}"
    found = [lab.ranked(run, added, "test")["both"]["realistic"] for run in runs]
    return (
        model.data, both(model, other), f"{seeds}",
        shown(lab.valid_mrr(run, added) for run in runs),
        *(shown(each[name] for each in found) for name in METRICS),
        spent, commits(*runs, added),
    )  # fmt: skip


def inductive_row(lab: Lab, model: Model, seeds: int = 1) -> Sequence[str]:
    """Link prediction on another graph than the training graph."""
    other = f"{model.data}_ind"
    place, runs = lab.place(other), [lab.trained(each) for each in model.seeds(seeds)]
    found = [
        lab.results(
            f"metrics.{other}.test.json",
            run,
            partial(kgtool.evaluate, run, "test", run.dataset(place)),
        )
        for run in runs
    ]
    best = [each["both"]["realistic"] for each in found]
    return (
        f"{model.data}, {other}", model.label, f"{seeds}",
        shown(lab.valid_mrr(run, None) for run in runs),
        shown(each["mrr"] for each in best), shown(each["hits@10"] for each in best),
        shown(each["sampled"]["hits@10"] for each in found), minutes(runs), commits(*runs),
    )  # fmt: skip


def part_row(lab: Lab, part: str, model: Model, other: Model | None = None) -> Sequence[str]:
    """The MRR on valid of a part of the model."""
    run, added = lab.trained(model), lab.trained(other) if other else None
    spent = " + ".join(minutes([each]) for each in (run, added) if each)
    return part, model.data, shown([lab.valid_mrr(run, added)]), spent, commits(run, added)


def relations_row(lab: Lab, model: Model, other: Model | None = None) -> Sequence[str]:
    """Relation prediction by a model, or with another model's scores added."""
    run, added = lab.trained(model), lab.trained(other) if other else None
    ensemble = (added,) if added else ()
    found = lab.results(
        f"relations.{prefix(added)}test.json",
        run,
        lambda: kgtool.evaluate_relations(run, ensemble=ensemble, progress=SHOWN),
    )
    best, counts = found["realistic"], found["counts alone"]["realistic"]
    return (
        "`--task relations`", model.data, both(model, other),
        f"Hits@1 {best['hits@1']:.3f}, MRR {best['mrr']:.3f} (counts alone: "
        f"{counts['hits@1']:.3f}, {counts['mrr']:.3f})", commits(run, added),
    )  # fmt: skip


def classify_row(lab: Lab, model: Model) -> Sequence[str]:
    """Triple classification."""
    run = lab.trained(model)
    found = lab.results("triples.test.json", run, lambda: kgtool.evaluate_triples(run))
    names = {"accuracy": "accuracy", "f1": "F1", "roc_auc": "ROC-AUC", "ece": "ECE"}
    return (
        f"`--task triples`, {found['negatives']} negatives", model.data, model.label,
        ", ".join(f"{name} {found[key]:.3f}" for key, name in names.items()), commits(run),
    )  # fmt: skip


def baselines_row(lab: Lab, model: Model) -> Sequence[str]:
    """The MRR of trivial baselines."""
    out, place = lab.runs / f"{model.data}.baselines", lab.place(model.data)
    if not all((out / name / "metrics.test.json").exists() for name in BASELINES):
        print(f"writing {out}", file=sys.stderr)
        kgtool.evaluate_baselines(place, out=out, progress=SHOWN, overwrite=True)
    mrr = {
        name: read_json(out / name / "metrics.test.json")["both"]["realistic"]["mrr"]
        for name in BASELINES
    }
    return (
        "`evaluate --data`, MRR", model.data, "none",
        ", ".join(f"{name} {value:.3f}" for name, value in mrr.items()), commit(),
    )  # fmt: skip


def paths_row(lab: Lab, model: Model, compose: bool = False) -> Sequence[str]:
    """Path queries whose answers need a held-out edge; the model reads or composes the paths."""
    run = lab.trained(model)
    found = lab.results(
        "paths.composed.test.json" if compose else "paths.test.json",
        run,
        lambda: kgtool.evaluate_paths(run, compose=compose, progress=SHOWN),
    )
    best = found["held-out"]["all"]
    names = {"mrr": "MRR", "mean_quantile": "MQ", "typed_hits@10": "H@10"}
    return (
        f"`--task paths{' --compose' if compose else ''}`, lengths 2 to 5, held-out answers",
        model.data, model.label,
        ", ".join(f"{name} {best[key]['value']:.3f}" for key, name in names.items()), commits(run),
    )  # fmt: skip


def walks_row(lab: Lab, model: Model) -> Sequence[str]:
    """Perplexity of held-out walks."""
    run = lab.trained(model)
    found = lab.results("walks.test.json", run, lambda: kgtool.evaluate_walks(run))
    values = {row["by"]: row["both"] for row in found["perplexity"] if row["steps"] == "all"}
    return (
        "`--task walks`, perplexity per step", model.data, model.label,
        ", ".join(f"{name} {value:.0f}" for name, value in values.items()), commits(run),
    )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table: its columns, and a function for each row."""

    columns: tuple[str, ...]
    rows: tuple[partial[Sequence[str]], ...]


TABLES = {
    "links": Table(
        ("data", "preset", "seeds", "valid MRR", "MRR", "Hits@1", "Hits@10", "minutes", "commit"),
        tuple(
            partial(link_row, model=Model(data, preset), seeds=seeds)
            for data, preset, seeds in (
                ("umls", "umls", FIVE),
                ("umls", "umls-one-path", FIVE),
                ("kinship", "kinship", FIVE),
                ("kinship", "kinship-one-path", FIVE),
                ("families", "families", FIVE),
                ("families", "families-one-path", FIVE),
                ("codex-s", "codex-s", FIVE),
                ("codex-s", "codex-s-complex", FIVE),
                ("FB15k-237", "fb15k-237", 1),
                ("FB15k-237", "fb15k-237-large", 1),
                ("FB15k-237", "fb15k-237-one-path", 1),
                ("WN18RR", "wn18rr", 1),
                ("WN18RR", "wn18rr-one-path", 1),
                *((data, model, 1) for data in ("WN18RR", "FB15k-237") for model in LIBKGE),
                ("nell_v1_ind", FINE_TUNE, FIVE),
                ("WN18RR_v1_ind", FINE_TUNE, FIVE),
                ("fb237_v1_ind", FINE_TUNE, FIVE),
            )
        ),
    ),
    "inductive": Table(
        (
            "train, test",
            "preset",
            "seeds",
            "valid MRR",
            "MRR",
            "Hits@10",
            "of 50",
            "minutes",
            "commit",
        ),
        tuple(
            partial(inductive_row, model=Model(data, preset, settings), seeds=seeds)
            for data, preset, settings, seeds in (
                ("fb237_v1", "inductive", (), FIVE),
                ("fb237_v2", "inductive", (), FIVE),
                ("nell_v1", "inductive", (), FIVE),
                ("WN18RR_v1", "inductive", FEW_EDGES, FIVE),
                ("WN18RR_v2", "inductive", FEW_EDGES, FIVE),
                ("fb237_v1", FINE_TUNE, (), FIVE),
                ("nell_v1", FINE_TUNE, (), FIVE),
                ("WN18RR_v1", FINE_TUNE, (), FIVE),
            )
        ),
    ),
    "parts": Table(
        ("part", "data", "valid MRR", "minutes", "commit"),
        tuple(
            partial(
                part_row,
                part=part,
                other=other,
                model=Model(data, preset + kind, settings, None if kind else "all_paths"),
            )
            for data, preset, second in (
                ("FB15k-237", "fb15k-237", FB_GRU),
                ("WN18RR", "wn18rr", WN_ONE_PATH),
            )
            for part, kind, settings, other in (
                ("encoder alone", "-one-path", ("one_path.cell=distmult",), None),
                ("one-path GRU alone", "-one-path", NO_ENCODER, None),
                ("one-path GRU over the encoder", "-one-path", (), None),
                ("all paths alone", "", (), None),
                ("all paths and one path, added", "", (), second),
                ("all paths alone, an epoch", "", ONE_EPOCH, None),
                ("all paths fed by the encoder, an epoch", "", FED, None),
            )
        ),
    ),
    "questions": Table(
        ("question", "data", "model", "on test", "commit"),
        (
            partial(relations_row, model=WN),
            partial(relations_row, model=FB_GRU),
            partial(relations_row, model=FB_LARGE),
            partial(relations_row, model=CODEX),
            partial(classify_row, model=CODEX),
            partial(classify_row, model=WN),
            *(
                partial(baselines_row, model=Model(data, ""))
                for data in ("FB15k-237", "WN18RR", "umls", "kinship", "nations")
            ),
            *(
                partial(paths_row, model=model, compose=compose)
                for model in (FB_GRU, FB_PATHS)
                for compose in (False, True)
            ),
            *(partial(walks_row, model=model) for model in WALKS),
        ),
    ),
}


def markdown(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def make(table: Table, lab: Lab, only: str | None = None) -> Iterator[str]:
    """The lines of the table, each as soon as it is computed."""
    yield markdown(table.columns)
    yield markdown(["---"] * len(table.columns))
    for row in table.rows:
        if only in (None, row.keywords["model"].data):
            try:
                yield markdown(row(lab))
            except Missing as data:
                print(f"skipped: {data} is not in {lab.data}", file=sys.stderr)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="%(default)s")
    parser.add_argument("--only", help="only this data set, such as FB15k-237")
    args = parser.parse_args()
    try:
        for line in make(TABLES[args.table], Lab(args.data, args.runs), args.only):
            print(line, flush=True)
    except KGToolError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
