"""Answers of a run to questions, with probabilities, new facts first of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.labels import LabelIndex
from kgtool.errors import KGToolError, RunError
from kgtool.evaluation.candidates import Types
from kgtool.evaluation.tasks.path_composition import ComposedSteps
from kgtool.evaluation.tasks.relation_prediction import (
    RelationModel,
    count_relations,
    fit_relations,
)
from kgtool.inference.explain import Explanation, explain_triple, name_path
from kgtool.inference.probability import Probability, fit_probability
from kgtool.inference.query import Question
from kgtool.inference.top_k import best_answers, features
from kgtool.models.scorers import ModelScorer, PassScorer
from kgtool.runs.run import Run
from kgtool.storage.checkpoint import load_fitted, save_tensors

COLUMNS = ("question", "asked", "head", "relation", "tail", "score", "probability", "known")
# Valid triples that relations are fitted on: each is two passes of a model that makes passes.
FITTED = 500


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run with its data, ready to answer; what it takes more is made when it is first needed.

    Attributes:
        run: the run.
        dataset: the facts: train for the model to reason over, all splits for what is known.
        scorer: the run's model.
        labels: the labels, and the readable names.
        given_types: types by the label of an entity, where a file of them was given.
    """

    run: Run
    dataset: KGDataset
    scorer: ModelScorer
    labels: LabelIndex
    given_types: Mapping[str, Sequence[str]] | None = None
    _fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def known_in(self) -> dict[str, AnswerIndex]:
        """The true answers of each split, inverses included."""
        return {
            split: answer_index(self.dataset.split(split), self.dataset.num_relations)
            for split in SPLITS
        }

    @cached_property
    def known(self) -> AnswerIndex:
        """The true answers of all splits, inverses included."""
        return answer_index(self.dataset.filter_triples("test"), self.dataset.num_relations)

    @cached_property
    def types(self) -> Types:
        """What may stand on each side of a relation."""
        return Types.of(self.dataset, self.given_types)

    def probability(self) -> Probability | None:
        """The calibrated probabilities; None where valid holds too little to fit them on.

        Read from the run's folder the first time, or fitted and written there.
        """
        if "probability" not in self._fitted:
            self._fitted["probability"] = self._fit_probability()
        return self._fitted["probability"]

    def _fit_probability(self) -> Probability | None:
        file = self.fitted_file("probability")
        if file and file.exists():
            return Probability.load(file, self.dataset.num_relations)
        fitted = fit_probability(self.scorer, self.dataset)
        if file and fitted:
            with suppress(KGToolError):  # a run that may not be written to answers all the same
                fitted.save(file)
        return fitted

    def relations(self) -> RelationModel:
        """The model of `P(r | h, t)`, fitted on some of valid.

        Read from the run's folder the first time, or fitted and written there.
        """
        if "relations" not in self._fitted:
            self._fitted["relations"] = self._fit_relations()
        return self._fitted["relations"]

    def _fit_relations(self) -> RelationModel:
        file = self.fitted_file("relations")
        if file and file.exists():
            unfitted = count_relations([self.scorer], self.dataset)
            own = {"weights": unfitted.weights, "bias": unfitted.bias}
            fitted, _ = load_fitted(file, own)
            return replace(unfitted, weights=fitted["weights"], bias=fitted["bias"])
        valid = self.dataset.valid
        drawn = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))[:FITTED]
        found = fit_relations([self.scorer], replace(self.dataset, valid=valid[drawn]))
        if file:
            with suppress(KGToolError):
                save_tensors(file, {"weights": found.weights, "bias": found.bias}, {})
        return found

    def prepare(self) -> None:
        """Make all that any question needs, so that none has to wait for it, or writes a file."""
        for made in ("known_in", "known", "types", "passes"):
            getattr(self, made)
        self.probability()
        self.relations()

    def fitted_file(self, what: str) -> Path | None:
        """The file of a fitted model in the run's folder; None for other data than the run's own.

        Its name holds the digest of the weights, so that other weights do not find it.
        """
        if self.dataset.fingerprint != self.run.read_info()["fingerprint"]:
            return None
        return self.run.written(f"{what}.{self.run.weights_digest()}.safetensors")

    def ask(
        self, questions: Sequence[Question], top: int = 10, new: bool = True, typed: bool = False
    ) -> pd.DataFrame:
        """The best answers to questions.

        Args:
            questions: what is asked.
            top: most answers of each.
            new: leave out what is known.
            typed: leave out entities of other types than train has shown on that side of the
                relation, see `kgtool.evaluation.candidates.Types`.

        Returns:
            A row an answer, by question, best first: `question` (its number, from 0), `asked`,
            labels of `head`, `relation` and `tail`, `score`, `probability` (NaN where there is
            none: of what is known, of paths of several relations, and where valid holds too little
            to fit it on), and in `known` the split that holds it, or nothing.

        Raises:
            ScoreError: when a score is NaN or infinite, naming the query.
        """
        numbered = list(enumerate(questions))
        kinds = (
            (self._steps, [(i, q) for i, q in numbered if len(q.path) == 1]),
            (self._paths, [(i, q) for i, q in numbered if len(q.path) > 1]),
            (self._relations, [(i, q) for i, q in numbered if not q.path]),
        )
        parts = [answer(asked, top, new, typed) for answer, asked in kinds if asked]
        if not parts:
            return pd.DataFrame(columns=COLUMNS)
        table = pd.concat(parts, ignore_index=True)
        return table.sort_values("question", kind="stable", ignore_index=True)

    def _steps(
        self, asked: list[tuple[int, Question]], top: int, new: bool, typed: bool
    ) -> pd.DataFrame:
        """Answers to questions of one relation."""
        n, num_relations = self.dataset.num_entities, self.dataset.num_relations
        walked = [q.walked(num_relations) for _, q in asked]
        hr = torch.tensor([(start, path[0]) for start, path in walked])
        types = self.types if typed else None
        found = best_answers(self.scorer, hr, self.known, n, top, new=new, types=types)
        triples = found.triples(hr)
        return self._table(
            asked, found.query, found.tail, found.score,
            probability=self.probabilities(triples, found.scores, found.is_known),
            held_by=self._split_of(triples),
        )  # fmt: skip

    @cached_property
    def passes(self) -> PassScorer | None:
        """The passes that explain scores, on the CPU; None for a model without paths to show."""
        if self.scorer.passes is None:
            return None
        return replace(self.scorer.passes, decoder=deepcopy(self.scorer.passes.decoder).cpu())

    def explain(self, head: str, relation: str, tail: str, top: int = 10) -> Explanation:
        """The relation paths that carried the score of a triple, strongest first.

        Args:
            head, relation, tail: labels or readable names; `^r` is the inverse of the relation `r`.
            top: most paths to give.

        Raises:
            RunError: when the run reads one path at a time.
            DataError: when a label is not known.
        """
        passes = self.passes
        if passes is None:
            raise RunError(
                f"{self.run.path} reads one path at a time, its scores have no paths to show. "
                "Remedy: train with an [all_paths] section."
            )
        names = self.dataset.vocabulary
        h, r, t = self.labels.entity(head), self.labels.relation(relation), self.labels.entity(tail)
        found = explain_triple(passes.decoder, passes.graph, (h, r, t), feed=passes.feed)[:top]
        labels = names.entities[h], names.steps[r], names.entities[t]
        return Explanation(labels, tuple(name_path(path, names) for path in found))

    def probabilities(self, triples: Tensor, scores: Tensor, is_known: Tensor) -> np.ndarray:
        """`(m,)` float64, NaN of known facts; see `kgtool.inference.top_k` for what is given."""
        chance = np.full(len(triples), np.nan)
        probability = self.probability()
        if probability is not None and not is_known.all():
            new = ~is_known
            x = features(
                self.scorer, triples[new], scores[new], self.known,
                num_entities=self.dataset.num_entities, num_relations=self.dataset.num_relations,
            )  # fmt: skip
            chance[new.numpy()] = probability.of(x, triples[new, 1])
        return chance

    def _split_of(self, triples: Tensor) -> list[str]:
        """The split that holds each triple, or nothing."""
        holds = {split: index.contains(triples).tolist() for split, index in self.known_in.items()}
        return [
            next((split for split in SPLITS if holds[split][i]), "") for i in range(len(triples))
        ]

    def _paths(
        self, asked: list[tuple[int, Question]], top: int, new: bool, typed: bool
    ) -> pd.DataFrame:
        """Answers to paths of several relations, step by step, see `ComposedSteps`."""
        n, num_relations = self.dataset.num_entities, self.dataset.num_relations
        walked = [q.walked(num_relations) for _, q in asked]
        length = torch.tensor([len(path) for _, path in walked])
        path = torch.zeros(len(asked), int(length.max()), dtype=torch.long)
        for row, (_, relations) in zip(path, walked, strict=True):
            row[: len(relations)] = torch.tensor(relations)
        head = torch.tensor([start for start, _ in walked])
        scores = ComposedSteps(self.scorer, self.known_in["train"], n).score_paths(
            head, path, length
        )
        is_known = torch.zeros(len(asked), n, dtype=torch.bool)
        for row, (start, relations) in zip(is_known, walked, strict=True):
            row[follow(self.known, start, relations)] = True
        if new:
            scores.masked_fill_(is_known, -torch.inf)
        if typed:
            last = torch.tensor([relations[-1] for _, relations in walked])
            scores.masked_fill_(~(self.types.of_relations(last) | is_known), -torch.inf)
        value, tail = scores.topk(min(top, n), dim=1)
        query, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        tail = tail[query, place]
        none = np.full(len(query), np.nan)
        led = ["facts" if fact else "" for fact in is_known[query, tail].tolist()]
        return self._table(asked, query, tail, value[query, place], probability=none, held_by=led)

    def _relations(
        self, asked: list[tuple[int, Question]], top: int, new: bool, typed: bool
    ) -> pd.DataFrame:
        """Answers to what holds between two entities; types say nothing of them."""
        num_relations = self.dataset.num_relations
        pairs = torch.tensor([(q.head, q.tail) for _, q in asked])
        scores = self.relations().score_t(pairs)
        row = torch.arange(len(pairs)).repeat_interleave(num_relations)
        relation = torch.arange(num_relations).repeat(len(pairs))
        triples = torch.stack([pairs[row, 0], relation, pairs[row, 1]], dim=1)
        is_known = self.known.contains(triples).view(scores.shape)
        chance = (
            scores.masked_fill(is_known, -torch.inf).softmax(1).masked_fill(is_known, torch.nan)
        )
        ranked = scores.masked_fill(is_known, -torch.inf) if new else scores
        value, best = ranked.topk(min(top, num_relations), dim=1)
        query, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        best = best[query, place]
        held = self._split_of(triples[query * num_relations + best])
        return self._table(
            asked,
            query,
            best,
            value[query, place],
            probability=chance[query, best].numpy(),
            held_by=held,
        )

    def _table(
        self,
        asked: list[tuple[int, Question]],
        query: Tensor,
        answer: Tensor,
        score: Tensor,
        *,
        probability: np.ndarray,
        held_by: list[str],
    ) -> pd.DataFrame:
        """The rows of `ask`."""
        names = self.dataset.vocabulary
        rows = []
        for q, a in zip(query.tolist(), answer.tolist(), strict=True):
            number, question = asked[q]
            relation = "/".join(names.steps[r] for r in question.path or (a,))
            head = a if question.asked == "head" else question.head
            tail = a if question.asked == "tail" else question.tail
            entities = names.entities[head], names.entities[tail]
            rows.append((number, question.asked, entities[0], relation, entities[1]))
        table = pd.DataFrame(rows, columns=COLUMNS[:5])
        return table.assign(
            score=score.double().numpy(), probability=probability, known=np.array(held_by, object)
        )


def follow(known: AnswerIndex, start: int, path: Sequence[int]) -> Tensor:
    """`(m,)` int64: the entities that a path of known facts leads to."""
    here = torch.tensor([start])
    for relation in path:
        rows = known.rows(torch.stack([here, torch.full_like(here, relation)], dim=1))
        here = torch.unique(known.tails[known.expand(rows)[1]])
    return here
