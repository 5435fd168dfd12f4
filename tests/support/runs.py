"""A small graph, small configurations, and models that are tables of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kgtool.config import AllPathsConfig, Config, OnePathConfig, parse_config
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary

STEPS = (1, 2, 5)  # entity i has relation r to entity i + STEPS[r], in a ring
RING = 24


@dataclass(frozen=True, eq=False)
class Table:
    """A model with a table of scores, `(num_entities, relation ids, num_entities)`."""

    scores: Tensor

    def score_t(self, hr: Tensor) -> Tensor:
        return self.scores[hr[:, 0], hr[:, 1]]


def in_memory(
    train: Sequence[Sequence[int]],
    valid: Sequence[Sequence[int]],
    test: Sequence[Sequence[int]],
    num_entities: int,
    num_relations: int = 1,
) -> KGDataset:
    """A data set from ids; its labels sort in the order of the ids."""
    entities = tuple(f"e{i:03}" for i in range(num_entities))
    relations = tuple(f"r{i:03}" for i in range(num_relations))
    splits = [torch.tensor(split, dtype=torch.long).view(-1, 3) for split in (train, valid, test)]
    return KGDataset("small", None, Vocabulary(entities, relations), *splits)


def ring() -> KGDataset:
    """72 triples with a rule; 8 are valid, 8 are test, and train has all entities."""
    triples = torch.tensor(
        [(i, r, (i + step) % RING) for i in range(RING) for r, step in enumerate(STEPS)]
    )
    order = torch.randperm(len(triples), generator=torch.Generator().manual_seed(1))
    valid, test, train = (part.tolist() for part in triples[order].split([8, 8, len(triples) - 16]))
    return in_memory(train, valid, test, RING, len(STEPS))


def write_folder(dataset: KGDataset, folder: Path) -> Path:
    """The data set as files of triples; returns the folder."""
    folder.mkdir(parents=True)
    entities, relations = dataset.vocabulary.entities, dataset.vocabulary.relations
    for split in SPLITS:
        lines = (
            f"{entities[head]}\t{relations[relation]}\t{entities[tail]}\n"
            for head, relation, tail in dataset.split(split).tolist()
        )
        (folder / f"{split}.txt").write_bytes("".join(lines).encode())
    return folder


ONE_PATH = set(OnePathConfig.model_fields)
ALL_PATHS = set(AllPathsConfig.model_fields)
QUICK = {
    "epochs": 4,
    "warmup_steps": 2,
    "validate_every": 1,
    "precision": "float32",
}


def tiny_config(*, dim: int = 8, encoder: Any = (), **settings: Any) -> Config:
    """A configuration whose runs take less than a second: 4 epochs of 4 steps on `ring()`.

    Settings belong to the one-path decoder or to training, depending on their names.
    """
    decoder = {"batch_size": 32} | {k: v for k, v in settings.items() if k in ONE_PATH}
    if "num_negatives" in decoder:
        decoder |= {"training": "negative_sampling"}
    training = QUICK | {k: v for k, v in settings.items() if k not in ONE_PATH}
    return parse_config(
        {
            "seed": 7,
            "dim": dim,
            "encoder": dict(encoder),
            "one_path": decoder,
            "training": training,
        }
    )


def all_paths_config(
    *, dim: int = 8, encoder: dict[str, Any] | None = None, **settings: Any
) -> Config:
    """Like `tiny_config`, with the all-paths decoder: also 4 epochs of 4 steps on `ring()`."""
    decoder = {"layers": 3, "mlp_dim": 8, "batch_size": 6, "max_targets": 2}
    decoder |= {k: v for k, v in settings.items() if k in ALL_PATHS}
    training = QUICK | {k: v for k, v in settings.items() if k not in ALL_PATHS}
    parts = {"all_paths": decoder, "training": training}
    return parse_config(
        {"seed": 7, "dim": dim, **parts, **({} if encoder is None else {"encoder": encoder})}
    )


def combined_config(**training: Any) -> Config:
    """Both parts: 4 epochs of 4 steps of each on `ring()`, with all that draws random numbers."""
    one, paths = random_config(dim=12, epochs=3), all_paths_config(edge_dropout=0.2)
    return parse_config(
        {
            "seed": 7,
            "dim": paths.dim,
            "encoder": one.encoder.model_dump() if one.encoder else {},
            "one_path": {**one.one_path.model_dump(), "dim": one.dim} if one.one_path else {},
            "all_paths": paths.all_paths.model_dump() if paths.all_paths else {},
            "training": QUICK | training | {"one_path": {"epochs": 3, "learning_rate": 0.03}},
        }
    )


def random_config(**training: Any) -> Config:
    """Like `tiny_config`, with all options that draw random numbers in a step."""
    return tiny_config(
        encoder={"edge_dropout": 0.2, "feature_dropout": 0.1},
        path_query_ratio=0.5,
        walk_ratio=0.5,
        **training,
    )
