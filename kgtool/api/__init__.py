"""The Python interface: fetch and split data; query, compare, explain and export runs."""

from kgtool.api.answers import explain, export
from kgtool.api.data import convert
from kgtool.api.data_sets import data_sets, fetch
from kgtool.api.evaluation import compare, evaluate, evaluate_baselines
from kgtool.api.extending import extend
from kgtool.api.predicting import complete, neighbours, open_predictor, predict
from kgtool.api.questions import evaluate_paths, evaluate_relations, evaluate_triples
from kgtool.api.reporting import write_report
from kgtool.api.serving import serve
from kgtool.api.splitting import split
from kgtool.api.walking import next_step, routes, walks

__all__ = [
    "compare",
    "complete",
    "convert",
    "data_sets",
    "evaluate",
    "evaluate_baselines",
    "evaluate_paths",
    "evaluate_relations",
    "evaluate_triples",
    "explain",
    "export",
    "extend",
    "fetch",
    "neighbours",
    "next_step",
    "open_predictor",
    "predict",
    "routes",
    "serve",
    "split",
    "walks",
    "write_report",
]
