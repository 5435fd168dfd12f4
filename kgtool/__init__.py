"""Knowledge graph completion on DGL: train, evaluate, explain and export, as on the command line.

data = kgtool.load_dataset("datasets/families")
config = kgtool.load_config("configs/families.toml")
run = kgtool.train(config, data, "runs/families")
print(kgtool.evaluate(run).mrr)
kgtool.export(run, "runs/families/export")
"""

import importlib.metadata
import os

# torch and the compiled kernels each have a pool of threads. Idle threads must not spin on the
# cores that the other pool needs. The setting takes effect only if kgtool is imported before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from kgtool.api import (
    compare,
    complete,
    convert,
    data_sets,
    evaluate,
    evaluate_baselines,
    evaluate_paths,
    evaluate_relations,
    evaluate_triples,
    explain,
    export,
    extend,
    fetch,
    neighbours,
    next_step,
    open_predictor,
    predict,
    routes,
    serve,
    split,
    walks,
    write_report,
)
from kgtool.config import Config, load_config
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.data.loaders import Reading, dataset_of, load_dataset, read_triples
from kgtool.errors import KGToolError
from kgtool.evaluation.evaluator import Evaluation, evaluate_model
from kgtool.runs.run import Run
from kgtool.training.trainer import train

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
    "explain",
    "export",
    "extend",
    "fetch",
    "load_config",
    "load_dataset",
    "neighbours",
    "next_step",
    "open_predictor",
    "predict",
    "read_triples",
    "routes",
    "serve",
    "split",
    "train",
    "walks",
    "write_report",
]
