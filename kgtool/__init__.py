"""Knowledge graph completion on DGL: train, evaluate, predict, explain and export in Python.

data = kgtool.load_dataset("datasets/families")
config = kgtool.load_config("configs/families.toml")
run = kgtool.train(config, data, "runs/families")
print(kgtool.evaluate(run).mrr)
kgtool.export(run, "runs/families/export")

Importing kgtool is quick: torch, DGL and the like are imported when a name is first used.
"""

import importlib
import importlib.metadata
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# torch and the compiled kernels each have a pool of threads. Idle threads must not spin on the
# cores that the other pool needs. The setting takes effect only if kgtool is imported before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from kgtool.api.compare import compare
    from kgtool.api.complete import complete
    from kgtool.api.data import convert, data_sets, fetch
    from kgtool.api.evaluate import (
        evaluate,
        evaluate_baselines,
        evaluate_paths,
        evaluate_relations,
        evaluate_triples,
        evaluate_walks,
    )
    from kgtool.api.explain import explain
    from kgtool.api.export import export
    from kgtool.api.extend import extend
    from kgtool.api.predict import (
        neighbours,
        open_predictor,
        predict,
        predict_next,
        predict_routes,
        score_triples,
    )
    from kgtool.api.pretrain import pretrain
    from kgtool.api.report import report
    from kgtool.api.runs import pretrained
    from kgtool.api.serve import serve
    from kgtool.api.split import split
    from kgtool.api.train import train
    from kgtool.api.tune import tune
    from kgtool.config import Config, load_config
    from kgtool.data.dataset import KGDataset, Vocabulary
    from kgtool.data.loaders import Reading, dataset_of, load_dataset, read_triples
    from kgtool.errors import KGToolError
    from kgtool.evaluation.evaluator import Evaluation, evaluate_model
    from kgtool.runs.run import Run
    from kgtool.training.automatic import choose_settings

__version__ = importlib.metadata.version("kgtool")

__all__ = [
    "Config",
    "Evaluation",
    "KGDataset",
    "KGToolError",
    "Reading",
    "Run",
    "Vocabulary",
    "__version__",
    "choose_settings",
    "compare",
    "complete",
    "convert",
    "data_sets",
    "dataset_of",
    "evaluate",
    "evaluate_baselines",
    "evaluate_model",
    "evaluate_paths",
    "evaluate_relations",
    "evaluate_triples",
    "evaluate_walks",
    "explain",
    "export",
    "extend",
    "fetch",
    "load_config",
    "load_dataset",
    "neighbours",
    "open_predictor",
    "predict",
    "predict_next",
    "predict_routes",
    "pretrain",
    "pretrained",
    "read_triples",
    "report",
    "score_triples",
    "serve",
    "split",
    "train",
    "tune",
]

# Module → the names that the package gives from it; a test compares it with the imports above.
_NAMES = {
    "kgtool.api.compare": ("compare",),
    "kgtool.api.complete": ("complete",),
    "kgtool.api.data": ("convert", "data_sets", "fetch"),
    "kgtool.api.evaluate": (
        "evaluate",
        "evaluate_baselines",
        "evaluate_paths",
        "evaluate_relations",
        "evaluate_triples",
        "evaluate_walks",
    ),
    "kgtool.api.explain": ("explain",),
    "kgtool.api.export": ("export",),
    "kgtool.api.extend": ("extend",),
    "kgtool.api.predict": (
        "neighbours",
        "open_predictor",
        "predict",
        "predict_next",
        "predict_routes",
        "score_triples",
    ),
    "kgtool.api.pretrain": ("pretrain",),
    "kgtool.api.report": ("report",),
    "kgtool.api.runs": ("pretrained",),
    "kgtool.api.serve": ("serve",),
    "kgtool.api.split": ("split",),
    "kgtool.api.train": ("train",),
    "kgtool.api.tune": ("tune",),
    "kgtool.config": ("Config", "load_config"),
    "kgtool.data.dataset": ("KGDataset", "Vocabulary"),
    "kgtool.data.loaders": ("Reading", "dataset_of", "load_dataset", "read_triples"),
    "kgtool.errors": ("KGToolError",),
    "kgtool.evaluation.evaluator": ("Evaluation", "evaluate_model"),
    "kgtool.runs.run": ("Run",),
    "kgtool.training.automatic": ("choose_settings",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        # With name and object, Python suggests the nearest public name.
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    value = getattr(importlib.import_module(_MODULES[name]), name)
    if _MODULES[name].startswith("kgtool.api."):
        checked = importlib.import_module("kgtool.api.arguments").checked
        value = checked(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The package, in which `export` and `report` are functions, not the packages of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds each module that it has imported to its parent package.
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
