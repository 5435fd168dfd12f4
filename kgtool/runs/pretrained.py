"""Shipped weights: a model that answers on any graph without training on it.

The folder `kgtool/pretrained` has, for each name, NAME.safetensors, NAME.toml (the configuration of
its pre-training) and NAME.md (the model card). A conditional model has no parameter of an entity or
a relation, so its weights make a run on any data set. The run is a folder like any other: what is
fitted for its graph, such as probabilities, is kept there.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from kgtool.config import load_config
from kgtool.data.dataset import KGDataset
from kgtool.data.registry.cache import cache_folder
from kgtool.errors import KGToolError, RunError, quoted
from kgtool.runs.run import BEST, Run
from kgtool.storage.files import open_regular, sha256_of

FOLDER = Path(__file__).parent.parent / "pretrained"
DEFAULT = "base"


def pretrained_names() -> tuple[str, ...]:
    """The names of the shipped weights."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.safetensors")))


def pretrained_run(dataset: KGDataset, out: Path | None = None, name: str = DEFAULT) -> Run:
    """A run of shipped weights on a data set; nothing is trained.

    Args:
        dataset: the graph.
        out: the folder of the run. By default one in the user's cache, which a later call for the
            same graph and weights finds; where the cache cannot be written, a temporary one.
        name: one of `pretrained_names`.

    Raises:
        RunError: if there are no weights of this name, or `out` is not empty.
    """
    weights, settings = FOLDER / f"{name}.safetensors", FOLDER / f"{name}.toml"
    if not weights.is_file():
        raise RunError(
            f"there are no pre-trained weights {quoted(name)}. Remedy: use one of "
            f"{', '.join(pretrained_names())}."
        )
    if out is not None:
        return _create(out, dataset, weights, settings)
    with open_regular(weights) as file:
        digest = sha256_of(file)[:12]
    place = cache_folder() / "pretrained" / f"{name}-{digest}-{dataset.fingerprint[:24]}"
    with suppress(KGToolError):
        return Run.open(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    except OSError:
        return _create(Path(tempfile.mkdtemp(prefix="kgtool-")), dataset, weights, settings)
    _create(folder, dataset, weights, settings)
    with suppress(OSError):  # another process may have made it
        folder.rename(place)
    shutil.rmtree(folder, ignore_errors=True)
    return Run.open(place)


def _create(folder: Path, dataset: KGDataset, weights: Path, settings: Path) -> Run:
    unset = {"pretrain": None, "data": None, "init_from": None}
    config = load_config(settings).model_copy(update=unset)
    run = Run.create(folder, config, dataset, {"pretrained": weights.stem})
    shutil.copyfile(weights, folder / BEST)
    return run
