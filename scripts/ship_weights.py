#!/usr/bin/env python3
"""Make the files of kgtool/pretrained from a run of `kgtool pretrain`.

    python scripts/ship_weights.py runs/pretrain --name base

The weights are those of the last step, averaged if the run averages them: no validation selects
them. The configuration names its graphs without their folders. The model card, NAME.md, is written
by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kgtool.config import load_config
from kgtool.runs.pretrained import FOLDER
from kgtool.runs.run import LAST
from kgtool.storage.archives import archive_suffix
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.storage.files import atomic_write


def ship(run: Path, name: str) -> int:
    """Write NAME.safetensors and NAME.toml; return the number of parameters."""
    tensors, _ = load_tensors(run / LAST)
    for kind in ("average.", "model."):
        weights = {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}
        if weights:
            break
    config = load_config(run / "config.toml")
    assert config.pretrain
    graphs = {bare(place): share for place, share in config.pretrain.graphs.items()}
    pretrain = config.pretrain.model_copy(update={"graphs": graphs})
    config = config.model_copy(update={"pretrain": pretrain, "data": None})
    FOLDER.mkdir(exist_ok=True)
    save_tensors(FOLDER / f"{name}.safetensors", weights, {})
    with atomic_write(FOLDER / f"{name}.toml") as file:
        file.write(config.to_toml())
    return sum(t.numel() for t in weights.values())


def bare(place: str) -> str:
    """The name of a data set, from its path."""
    name = Path(place).name
    return name.removesuffix(archive_suffix(name) or "")


def main() -> None:
    """Read the arguments and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--name", default="base", help="name of the weights (%(default)s)")
    args = parser.parse_args()
    print(f"{args.name}: {ship(args.run, args.name):,} parameters in {FOLDER}")


if __name__ == "__main__":
    main()
