"""Numbers, models and data in words, for the page and the card of a run."""

from __future__ import annotations

import math
import re
import shlex
from typing import Any

from kgtool.config import Config
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.report.names import clean
from kgtool.runs.run import LOG, Run

# The one-path decoder, by its cell.
READERS = {
    "gru": "A GRU that reads one path",
    "transe": "TransE’s translations along one path",
    "distmult": "DistMult’s product along one path",
    "complex": "ComplEx’s product along one path",
    "rotate": "RotatE’s rotations along one path",
    "tucker": "TuckER’s core tensor along one path",
}


def places(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of digits; a dash for None or NaN."""
    if value is None or math.isnan(value):
        return "–"
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # no -0.000


def clean_title(name: str, split: str) -> str:
    """The title of the page."""
    return f"{clean(name)}: {split}"


def evaluate_command(*words: object, split: str) -> str:
    """The command `kgtool evaluate` with these words, for a split, ready to be copied."""
    chosen = () if split == "test" else ("--split", split)
    return shlex.join(map(str, ("kgtool", "evaluate", *words, *chosen)))


def describe_model(config: Config) -> str:
    """A sentence that describes the model of a configuration."""
    if config.combined:
        one_path, all_paths = map(describe_model, config.parts.values())
        return f"{all_paths}. Added, with weights fitted on valid: {one_path}"
    encoder, paths = config.encoder, config.all_paths
    layers = 0 if encoder is None else encoder.layers
    fed = "entity embeddings"
    if encoder is not None and layers:
        basis = encoder.decomposition == "basis"
        kind = f"{encoder.num_bases} bases" if basis else f"{encoder.num_blocks} blocks"
        many = "one layer" if layers == 1 else f"{layers} layers"
        fed = f"an R-GCN encoder of {many} ({kind})"
    if paths is not None:
        text = f"A GRU that reads all paths of up to {paths.layers} edges from a head"
        return (
            f"{text}, fed by {fed}; {config.dim} dims" if encoder else f"{text}; {config.dim} dims"
        )
    reader = READERS[config.one_path.cell if config.one_path else "gru"]
    return f"{reader} over {fed}; {config.dim} dims"


def date_of(run: Run) -> str | None:
    """The date on which training began, from the log; None if unknown."""
    try:
        with (run.path / LOG).open(encoding="utf-8") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"\d{4}-\d\d-\d\d", line)
    return match.group() if match else None


def duration(seconds: float) -> str:
    """A short text such as `48 s`, `3.5 min`, `125 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"


def data_rows(dataset: KGDataset) -> list[dict[str, Any]]:
    """Per split, the numbers of triples, entities and relations, and of those unseen in train."""
    seen = {"entities": dataset.train[:, [0, 2]], "relations": dataset.train[:, 1]}
    known = {name: set(ids.flatten().tolist()) for name, ids in seen.items()}
    rows = []
    for split in SPLITS:
        triples = dataset.split(split)
        entities = set(triples[:, [0, 2]].flatten().tolist())
        relations = set(triples[:, 1].tolist())
        rows.append(
            {
                "split": split,
                "triples": len(triples),
                "entities": len(entities),
                "relations": len(relations),
                "unseen_entities": len(entities - known["entities"]),
                "unseen_relations": len(relations - known["relations"]),
            }
        )
    return rows
