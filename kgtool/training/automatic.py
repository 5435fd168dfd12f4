"""Settings for a graph never seen: from its counts, the machine and a time.

The rules give what the presets of `configs/` share, as functions of the counts of a graph
(`kgtool.data.traits`). The number of epochs and the dimensions come from the time: a few steps of
each candidate are trained and thrown away, and the largest one is taken whose training fits. So the
settings depend on the machine; the configuration that they give does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from types import MappingProxyType
from typing import Any

import pandas as pd
import tomli_w
import torch

from kgtool.config import Config, load_config, read_settings, setting_names, short_value
from kgtool.data.dataset import KGDataset, check_not_empty
from kgtool.data.loaders.feature_files import with_features
from kgtool.data.traits import Traits
from kgtool.display import html
from kgtool.errors import ConfigError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import Progress, keep_large_blocks, machine_bytes, own_random_state, standard_state
from kgtool.training.space import entries, with_settings
from kgtool.training.step import Updater

MINUTES = 20.0
# Share of the time that is planned; the rest is for loading, checkpoints and what comes unplanned.
PLANNED = 0.9
# Share of the planned time for the embeddings: a third of the time of the paths.
EMBEDDINGS = 0.25
# Validations of a part, and the largest share of its time that they may take.
VALIDATIONS, VALIDATING = 10, 0.15
# Passes that a graph needs: this many, or this many for each entity.
PASSES, PASSES_PER_ENTITY = 32_000, 5
# With more edges in a pass, or fewer passes in the time, passes are on a budget; except where a
# budget saves nothing, with few edges.
MOST_EDGES, LEAST_PASSES, FEW_EDGES = 4_000_000, 4_000, 200_000
# Updates of embeddings, and the least and largest number of epochs for them.
UPDATES, LEAST_EPOCHS, MOST_EPOCHS = 600, 20, 60
# Epochs of embeddings that a larger dimension must leave room for.
ROOM = 12
# Bytes per number of a table of embeddings: weights, gradients, the optimiser's sums, a copy.
BYTES = 14
# What all graphs share; the paths read the neighbourhood, so that the encoder needs no layers.
FIXED: Mapping[str, Any] = MappingProxyType(
    {
        "encoder.layers": 0,
        "one_path.cell": "complex",
        "one_path.input_dropout": 0.0,
        "one_path.output_dropout": 0.0,
        "all_paths.batch_size": 8,
        "training.optimizer": "adamw",
        "training.warmup_steps": 50,
        "training.max_grad_norm": 1.0,
        "training.one_path.optimizer": "adagrad",
        "training.one_path.learning_rate": 0.1,
        "training.one_path.weight_decay": 0.0,
        "training.one_path.warmup_steps": 0,
    }
)
# The sections of a configuration, in the order of presets.
SECTIONS = ("", "encoder", "one_path", "all_paths", "training", "training.one_path")
# Seconds in which steps are measured, and their largest number.
MEASURED, MOST_STEPS = 2.0, 40
# Triples of valid that are ranked to measure a validation.
RANKED = 64


@dataclass(frozen=True)
class Chosen:
    """A chosen value.

    Attributes:
        value: of the setting.
        why: the reason, a phrase; empty if all graphs share the value.
    """

    value: Any
    why: str = ""


@dataclass(frozen=True, eq=False)
class ChosenSettings:
    """A configuration that was chosen for a data set.

    Attributes:
        config: the configuration.
        chosen: the chosen settings by name, as in `training.epochs`.
        traits: the counts of the data set.
        minutes: the time of training and validation that is expected on this machine.
    """

    config: Config
    chosen: Mapping[str, Chosen]
    traits: Traits
    minutes: float

    def to_frame(self) -> pd.DataFrame:
        """Setting, value and reason of the settings that depend on graph, machine or time."""
        rows = [
            (name, short_value(each.value), each.why)
            for name, each in self.chosen.items()
            if each.why and name != "data"
        ]
        return pd.DataFrame(rows, columns=["setting", "value", "why"])

    def to_toml(self) -> str:
        """The chosen settings as a file for `kgtool train`, each below its reason."""
        lines: dict[str, list[str]] = {section: [] for section in SECTIONS}
        for name, each in self.chosen.items():
            section, _, key = name.rpartition(".")
            lines[section] += [f"# {each.why}"] if each.why else []
            lines[section].append(tomli_w.dumps({key: each.value}).rstrip())
        head = f"# Chosen for {self.about()}.\n# Expected: {self.expected()} of training.\n"
        parts = [
            "\n".join([*([f"[{section}]"] if section else []), *lines[section]])
            for section in SECTIONS
            if lines[section]
        ]
        return "\n".join([head, *(f"{part}\n" for part in parts)])

    def expected(self) -> str:
        """The expected time, in words."""
        seconds = 60 * self.minutes
        return f"{self.minutes:.0f} minutes" if self.minutes >= 2 else f"{seconds:.0f} seconds"

    def about(self) -> str:
        """The counts of the data set, in a phrase."""
        t = self.traits
        return (
            f"{t.triples:,} triples of {t.entities:,} entities and {t.relations:,} relations, "
            f"{t.degree:.1f} triples per entity, {t.many_to_many:.0%} of them N-N, "
            f"{t.symmetric} symmetric relation{'s' * (t.symmetric != 1)}"
        )

    def __repr__(self) -> str:
        return f"ChosenSettings({len(self.chosen)} settings for {self.about()})"

    def _repr_html_(self) -> str:
        return html("Settings", {"data": self.about()}, self.to_frame())


@standard_state()
def choose_settings(
    dataset: KGDataset,
    *,
    minutes: float = MINUTES,
    overrides: Iterable[str] = (),
    progress: bool = False,
) -> ChosenSettings:
    """Choose the settings of a model of both parts for a data set.

    It trains some steps of a few candidates, for about a minute at most, to learn how long a step
    takes here. Nothing is written.

    Args:
        dataset: the triples. Train and valid are counted; test is not read.
        minutes: the time that training and its validations may take on this machine, above 0.
        overrides: settings that are given, each `"key=value"`; the others are chosen for them.
        progress: show a progress bar.

    Raises:
        ConfigError: for a time that is not above 0, or overrides that do not fit.
        DataError: when train or valid has no triples.
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes is {minutes:g}, not above 0. Remedy: pass a larger number.")
    check_not_empty(dataset, ("train", "valid"))
    keep_large_blocks()
    traits = Traits.of(dataset)
    stated = entries(read_settings({}, overrides)[0], {*setting_names()})
    given = {name: Chosen(value, "given") for name, value in stated}
    fixed = {name: Chosen(value) for name, value in FIXED.items()}
    chosen = {**fixed, **_of_embeddings(traits), **_of_paths(traits)}
    with Progress(0, "choose settings", "step", shown=progress) as bar:
        clock = _Clock(dataset, chosen, given, bar)
        seconds = 60 * minutes * PLANNED
        embeddings = clock.fit("one_path", _embeddings(traits), EMBEDDINGS * seconds)
        left = max(seconds - embeddings.seconds - clock.spent(), 0.1 * seconds)
        paths = clock.fit("all_paths", _paths(traits), left)
    chosen = {**chosen, **embeddings.chosen(), **paths.chosen(), **given}
    expected = (embeddings.seconds + paths.seconds) / 60
    return ChosenSettings(_config(chosen), _ordered(chosen), traits, expected)


def _of_paths(t: Traits) -> dict[str, Chosen]:
    """The settings of the paths that the time does not change."""
    layers = min(max(round(1.2 + math.log(t.entities) / math.log(max(t.degree, 2.0))), 3), 6)
    targets = min(max(2 ** round(math.log2(max(t.degree / 2, 1))), 4), 128)
    repeats = _passes(t) / t.entities
    few = t.degree < 6
    hide = t.joined > 0.02 and t.valid_joined < t.joined / 4
    much = f"a pass starts {repeats:.0f} times at an entity"
    return {
        "all_paths.layers": Chosen(
            layers, f"{t.entities:,} entities with {t.degree:.1f} triples each are this far apart"
        ),
        "all_paths.max_targets": Chosen(targets, f"half of {t.degree:.1f} triples per entity"),
        "all_paths.max_target_ratio": Chosen(
            *(0.5, "most entities have so few triples that a third is none")
            if few
            else (1 / 3, "two thirds of the triples stay for the paths")
        ),
        "all_paths.remove_target_edges": Chosen(
            "pair" if hide else "edge",
            f"another triple joins {t.joined:.0%} of the pairs of train, {t.valid_joined:.0%} of "
            "valid's",
        ),
        "all_paths.edge_dropout": Chosen(
            0.0 if few or repeats < 10 else 0.3 if repeats < 100 else 0.5,
            much if not few else "entities with few triples cannot lose any",
        ),
        "training.weight_decay": Chosen(0.1 if repeats >= 6 else 0.0, much),
    }


def _of_embeddings(t: Traits) -> dict[str, Chosen]:
    """The settings of the embeddings that the time does not change."""
    n3 = 0.1 if t.degree < 10 else 0.05 if t.entities >= 5000 else 0.01
    weight = float(f"{min(0.5, max(0.01, (t.relations / 118) ** 2)):.2g}")
    return {
        "one_path.n3": Chosen(
            n3, f"{t.entities:,} entities with {t.degree:.1f} triples to learn each from"
        ),
        "one_path.relation_prediction": Chosen(
            weight, f"helps the more, the more relations there are: {t.relations:,}"
        ),
    }


def _passes(t: Traits) -> int:
    """The number of passes that the paths need."""
    return max(PASSES, PASSES_PER_ENTITY * t.entities)


@dataclass(frozen=True)
class _Candidate:
    """Settings that the time decides about.

    Attributes:
        chosen: the settings.
        epochs: the number of epochs that the training needs.
        least: the number of epochs that must fit into the time.
    """

    chosen: Mapping[str, Chosen]
    epochs: int
    least: float


def _paths(t: Traits) -> list[_Candidate]:
    """The candidates of the paths, the most accurate first."""
    epochs = max(1, round(_passes(t) / t.entities))
    wide = {
        "dim": Chosen(64, "all passes fit into the time"),
        "training.learning_rate": Chosen(0.005, "usual for 64 dimensions"),
    }
    narrow = {
        "dim": Chosen(32, "more passes fit into the time than with 64"),
        "training.learning_rate": Chosen(0.01, "usual for 32 dimensions"),
    }
    edges = 2 * t.triples
    budget = {
        "dim": narrow["dim"],
        "all_paths.node_budget": Chosen(300, f"a whole pass reads {edges:,} edges, too slow here"),
        "all_paths.layers": Chosen(3, "a longer path leaves the budget"),
        "all_paths.batch_size": Chosen(16, "a pass on a budget is small"),
        "all_paths.max_targets": Chosen(16, "a pass on a budget reaches no more"),
        "training.learning_rate": Chosen(0.005, "usual for passes on a budget"),
    }
    last = _Candidate(budget, epochs, 0)
    if edges > MOST_EDGES:
        return [last]
    whole = [
        _Candidate(wide, epochs, epochs),
        _Candidate(narrow, epochs, LEAST_PASSES / t.entities),
    ]
    return whole if edges < FEW_EDGES else [*whole, last]


def _embeddings(t: Traits) -> list[_Candidate]:
    """The candidates of the embeddings, the most accurate first."""
    batch = 512 if t.entities >= 20_000 else 256
    epochs = min(max(round(UPDATES * batch / t.queries), LEAST_EPOCHS), MOST_EPOCHS)
    largest = 1024 if t.entities >= 5000 else 512 if t.entities >= 1000 else 256
    dims = [dim for dim in (1024, 512, 256, 128) if dim <= largest]
    memory = machine_bytes() or 2**34
    found = []
    for dim in dims:
        if BYTES * dim * t.entities + 12 * batch * t.entities > memory / 4:
            continue
        chosen = {
            "one_path.dim": Chosen(dim, "the largest that fits into time and memory"),
            "one_path.batch_size": Chosen(batch, f"for {t.entities:,} entities"),
        }
        found.append(_Candidate(chosen, epochs, min(epochs, ROOM) if dim > dims[-1] else 2))
    if found and t.entities <= 10_000:
        return found
    sampled = {
        "one_path.dim": Chosen(128, "the largest that fits into time and memory"),
        "one_path.batch_size": Chosen(4096, "a step reads the rows of its batch alone"),
        "one_path.training": Chosen("negative_sampling", f"{t.entities:,} entities are too many"),
        "one_path.num_negatives": Chosen(1024, "the steps of a batch share them"),
    }
    return [*found, _Candidate(sampled, LEAST_EPOCHS, 0)]


def _config(chosen: Mapping[str, Chosen]) -> Config:
    return load_config(with_settings({}, {name: each.value for name, each in chosen.items()}))


def _ordered(chosen: Mapping[str, Chosen]) -> dict[str, Chosen]:
    """The settings in the order of `SECTIONS`."""
    names = sorted(chosen, key=lambda name: SECTIONS.index(name.rpartition(".")[0]))
    return {name: chosen[name] for name in names}


@dataclass(frozen=True)
class _Cost:
    """What a training costs on this machine.

    Attributes:
        step: seconds of a step.
        steps: number of steps in an epoch.
        validation: seconds of a validation.
    """

    step: float
    steps: int
    validation: float


@dataclass(frozen=True)
class _Plan:
    """A candidate with the number of epochs that fits.

    Attributes:
        part: the part of the model.
        candidate: the settings.
        cost: of its training.
        allowed: the time in seconds.
    """

    part: str
    candidate: _Candidate
    cost: _Cost
    allowed: float

    @property
    def validations(self) -> int:
        """The number of validations."""
        most = VALIDATING * self.allowed / max(self.cost.validation, 1e-9)
        return max(1, min(VALIDATIONS, int(most)))

    @property
    def possible(self) -> float:
        """The number of epochs that fit into the time."""
        left = self.allowed - self.validations * self.cost.validation
        return max(left / self.cost.step, 1) / self.cost.steps

    @property
    def seconds(self) -> float:
        """The expected time."""
        epochs = min(self.possible, self.candidate.epochs)
        return epochs * self.cost.steps * self.cost.step + self.validations * self.cost.validation

    def chosen(self) -> dict[str, Chosen]:
        """The settings of the candidate and its epochs."""
        inner = "training.one_path." if self.part == "one_path" else "training."
        needed, possible = self.candidate.epochs, self.possible
        chosen = dict(self.candidate.chosen)
        step = f"a step takes {_seconds(self.cost.step)} here"
        if possible >= needed:
            epochs, why = needed, f"as many as such a graph needs; {step}"
        else:
            epochs = max(self.validations, math.ceil(possible))
            why = f"{possible:.1f} of {needed} epochs fit into the time; {step}"
            limit = max(1, int(possible * self.cost.steps / epochs))
            chosen[f"{inner}steps_per_epoch"] = Chosen(limit, why)
        chosen[f"{inner}epochs"] = Chosen(epochs, why)
        chosen[f"{inner}validate_every"] = Chosen(
            math.ceil(epochs / self.validations),
            f"a validation takes {_seconds(self.cost.validation)} here",
        )
        return chosen


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


class _Clock:
    """Measures candidates.

    Args:
        dataset: the triples.
        chosen: the settings that all candidates share.
        given: the settings that are given.
        bar: counts the steps.
    """

    def __init__(
        self,
        dataset: KGDataset,
        chosen: Mapping[str, Chosen],
        given: Mapping[str, Chosen],
        bar: Progress,
    ) -> None:
        self._dataset, self._given, self._chosen, self._bar = dataset, given, chosen, bar
        self._graph: KnowledgeGraph | None = None
        self._began = time.perf_counter()

    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    def fit(self, part: str, candidates: Sequence[_Candidate], seconds: float) -> _Plan:
        """The first candidate that fits into the time, or the last one."""
        plan = None
        for candidate in candidates:
            chosen = {**self._chosen, **candidate.chosen, **self._given}
            config = _config(chosen)
            plan = _Plan(part, candidate, self._cost(config.parts[part]), seconds)
            if plan.possible >= candidate.least:
                break
        assert plan is not None
        return plan

    def _cost(self, config: Config) -> _Cost:
        """Train a few steps, and rank a few triples."""
        dataset = with_features(self._dataset, config.encoder.features if config.encoder else None)
        with own_random_state():
            updater = Updater(config, dataset, graph=self._graph)
            self._graph = updater.model.graph  # all candidates read one graph
            batches = updater.batches(updater.objective.order(config.seed, 0))
            updater.make_step(batches[0])  # it compiles kernels
            times: list[float] = []
            for rows in batches[:MOST_STEPS]:
                with _measured(times):
                    updater.make_step(rows)
                updater.step += 1
                self._bar.update(1)
                if sum(times) > MEASURED:
                    break
            few = dataset.valid[torch.randperm(len(dataset.valid))[:RANKED]]
            weights = {name: each for name, each in dataset.weights.items() if name != "valid"}
            scorer = updater.scorer()
            sample = replace(dataset, valid=few, weights=weights)
            evaluate_model(scorer, sample, "valid")  # it compiles kernels
            ranking: list[float] = []
            with _measured(ranking):
                evaluate_model(scorer, sample, "valid")
        if config.all_paths:  # a pass answers all queries of an entity
            share = len(few[:, ::2].unique()) / len(dataset.valid[:, ::2].unique())
        else:
            share = len(few) / len(dataset.valid)
        return _Cost(median(times), updater.all_steps, ranking[0] / share)


@contextmanager
def _measured(times: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.append(time.perf_counter() - began)
