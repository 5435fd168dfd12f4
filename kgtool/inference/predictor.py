"""Answers queries with a run: the best answers, with scores and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.labels import LabelIndex
from kgtool.display import html
from kgtool.errors import DataError, KGToolError, RunError, described, quoted
from kgtool.evaluation.candidates import Types
from kgtool.evaluation.ranking import whole_rows
from kgtool.evaluation.tasks.path_composition import ComposedSteps
from kgtool.evaluation.tasks.relation_prediction import (
    RelationModel,
    count_relations,
    fit_relations,
)
from kgtool.inference.explain import Explanation
from kgtool.inference.pairs import (
    PairChance,
    TripleChance,
    fit_pairs,
    load_pairs,
    save_pairs,
    triples_of,
)
from kgtool.inference.plausible import Plausible
from kgtool.inference.probability import (
    ANSWERS,
    Probability,
    as_many_as_held_out,
    fit_probability,
)
from kgtool.inference.query import PathTriple, Question, parse_triples, refusal
from kgtool.inference.top_k import best_answers, features, triple_scores
from kgtool.models.scorers import ModelScorer, Passes
from kgtool.ops import Progress, standard_state
from kgtool.runs.run import Run
from kgtool.storage.checkpoint import load_fitted, save_tensors

Made = TypeVar("Made")
COLUMNS = ("question", "asked", "head", "relation", "tail", "score", "probability", "known")
TRIPLE_COLUMNS = ("head", "relation", "tail", "score", "probability", "known", "reason")
# The version of the methods of all fits: with another one, stored fits are made again.
METHOD = 3
# Valid triples to fit relation prediction on: each takes two passes of an all-paths model.
FITTED = 500


# Labels of known answers that are named where they are left out.
EXAMPLES = 5


class LeftOut(NamedTuple):
    """The answers to a query that are not in its table."""

    known: int
    examples: list[str]
    types: int


class Allowed(Protocol):
    """An object that leaves out answers; see `Types` and `Plausible`."""

    def of_queries(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may answer queries `(n, 2)` int64."""
        ...

    def of_relations(self, relation: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may be tails of relation ids `(n,)` int64."""
        ...

    def of_triples(self, triples: Tensor) -> Tensor:
        """`(n,)` bool: whether head and tail of triples `(n, 3)` int64 may have the relation."""
        ...


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run with its data, ready to answer queries. Indices and fits are made at their first use.

    Attributes:
        run: the run.
        dataset: the data: the model reads train, and the triples of all splits are known facts.
        scorer: the run's model.
        fitting: makes the model that probabilities are fitted on, where it is another one: it must
            not read valid. A stored fit needs none.
        labels: labels and readable names.
        given_types: entity label → types, if given.
        given_missing: number of facts that the graph is assumed to lack, if given; see
            `kgtool.inference.probability`.
    """

    run: Run
    dataset: KGDataset
    scorer: ModelScorer
    labels: LabelIndex
    given_types: Mapping[str, Sequence[str]] | None = None
    given_missing: int | None = None
    fitting: Callable[[], ModelScorer] | None = None
    _fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        return f"Predictor({str(self.run.path)!r}, {self.dataset!r})"

    def _repr_html_(self) -> str:
        return html(f"Predictor of {self.run.path}", {"run": self.run, "data": self.dataset})

    def known_in(self, split: str) -> AnswerIndex:
        """The true answers of a split, inverses included."""
        triples, relations = self.dataset.split(split), self.dataset.num_relations
        return self._once(f"known in {split}", lambda: answer_index(triples, relations))

    @cached_property
    def known(self) -> AnswerIndex:
        """The true answers of all splits, inverses included."""
        return answer_index(self.dataset.filter_triples("test"), self.dataset.num_relations)

    @cached_property
    def types(self) -> Types:
        """The entities that may be heads and tails of each relation."""
        return Types.of(self.dataset, self.given_types)

    @cached_property
    def plausible(self) -> Plausible:
        """The answers that the known facts do not speak against."""
        facts = self.dataset.filter_triples("test")
        return Plausible.of(facts, self.dataset.num_entities, self.dataset.num_relations)

    @property
    def assumed_missing(self) -> int:
        """The number of facts that all splits lack, as assumed."""
        default = as_many_as_held_out(self.dataset)
        return default if self.given_missing is None else self.given_missing

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` returned at the first call."""
        if name not in self._fitted:
            self._fitted[name] = make()
        made: Made = self._fitted[name]
        return made

    @cached_property
    def _held_out(self) -> ModelScorer:
        """The model that does not read valid."""
        return self.fitting() if self.fitting else self.scorer

    @standard_state()
    def probability(self) -> Probability | None:
        """The calibration of probabilities; None if valid is too small to fit it.

        The first call reads it from the run's folder, or fits it and writes it there.
        """
        return self._once("probability", self._fit_probability)

    def _fit_probability(self) -> Probability | None:
        file = self.fitted_file(f"probability.{self.assumed_missing}")
        if file and file.exists():
            return Probability.load(file, self.dataset.num_relations)
        fitted = fit_probability(self._held_out, self.dataset, self.assumed_missing)
        if file and fitted:
            with suppress(KGToolError):  # a read-only run works too
                fitted.save(file)
        return fitted

    @standard_state()
    def relations(self) -> RelationModel:
        """The model of `P(r | h, t)`, fitted on a sample of valid.

        The first call reads it from the run's folder, or fits it and writes it there.
        """
        return self._once("relations", self._fit_relations)

    def _fit_relations(self) -> RelationModel:
        file = self.fitted_file("relations")
        if file and file.exists():
            unfitted = count_relations([self.scorer], self.dataset)
            own = {"weights": unfitted.weights, "bias": unfitted.bias}
            fitted, _ = load_fitted(file, own)
            return replace(unfitted, weights=fitted["weights"], bias=fitted["bias"])
        valid = self.dataset.valid
        drawn = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))[:FITTED]
        sample = replace(self.dataset, valid=valid[drawn], weights={})
        found = replace(fit_relations([self._held_out], sample), models=[self.scorer])
        if file:
            with suppress(KGToolError):
                save_tensors(file, {"weights": found.weights, "bias": found.bias}, {})
        return found

    @standard_state()
    def pairs(self) -> PairChance | TripleChance | None:
        """The chance of any relation between two entities.

        None without `probability`, except for a conditional model, whose chance needs no fit. The
        first call reads the fit from the run's folder, or fits it and writes it there.
        """
        return self._once("pairs", self._fit_pairs)

    def _fit_pairs(self) -> PairChance | TripleChance | None:
        probability = self.probability()
        if self.run.config.conditional:
            return TripleChance.on(self.scorer, probability, self.dataset)
        if probability is None:
            return None
        file = self.fitted_file(f"pairs.{self.assumed_missing}")
        if file and file.exists():
            return PairChance(self.scorer, self.relations(), probability, load_pairs(file))
        relations = replace(self.relations(), models=[self._held_out])
        found = fit_pairs(self._held_out, relations, probability, self.dataset)
        found = replace(found, model=self.scorer, relations=self.relations())
        if file:
            with suppress(KGToolError):
                save_pairs(found, file)
        return found

    @standard_state()
    def prepare(self) -> None:
        """Make all indices and fits now, so that no later query waits for them or writes a file."""
        for made in ("known", "types", "plausible", "passes"):
            getattr(self, made)
        for split in SPLITS:
            self.known_in(split)
        self.probability()
        if self.pairs() is None:
            self.relations()

    def fitted_file(self, name: str) -> Path | None:
        """The file of a fitted model in the run's folder; None if the data are not the run's.

        The file name has the digest of the weights, so that other weights get another file.
        """
        if self.dataset.fingerprint != self.run.read_info()["fingerprint"]:
            return None
        # Reading all weights takes seconds where they are large.
        digest = self._once("digest", self.run.weights_digest)
        return self.run.written(f"{name}.v{METHOD}.{digest}.safetensors")

    @standard_state()
    def ask(
        self,
        questions: Sequence[Question],
        top: int = 10,
        new: bool = True,
        typed: bool = False,
        *,
        any_type: bool = False,
    ) -> pd.DataFrame:
        """The best answers to queries.

        By default, answers that the known facts speak against are left out, see
        `kgtool.inference.plausible`.

        Args:
            questions: the queries.
            top: maximum number of answers per query.
            new: leave out known answers.
            typed: leave out entities whose type train does not have on that side of the relation,
                see `kgtool.evaluation.candidates.Types`.
            any_type: leave out no entities because of their type.

        Returns:
            One row per answer, by query: `question` (the number of the query, from 0), `asked` (the
            position of the `?`), labels of `head`, `relation` and `tail`, `score`, `probability`,
            and in `known` the split that has the triple, or an empty string. Known answers come
            first, by score. The others follow by probability, or by score where they have none.
            `probability` is NaN for known answers, for paths of several relations, and if valid is
            too small to fit it. `attrs["left_out"]` has a dictionary per query: the number of
            `known` answers that are not in the table, the labels of a few of them as `examples`,
            and in `types` the number of answers of another type whose scores are above the last
            answer's.

        Raises:
            DataError: for an object that is not a query.
            ScoreError: when a score is NaN or infinite, naming the query.
        """
        for number, each in enumerate(questions, 1):
            if not isinstance(each, Question):
                raise DataError(
                    f"query {number} is {described(each)}, not a Question. Remedy: ask with labels "
                    "by kgtool.predict, which takes a predictor too."
                )
        numbered = list(enumerate(questions))
        kinds = (
            (self._steps, [(i, q) for i, q in numbered if len(q.path) == 1]),
            (self._paths, [(i, q) for i, q in numbered if len(q.path) > 1]),
            (self._relations, [(i, q) for i, q in numbered if not q.path]),
        )
        types = self.types if typed else None if any_type else self.plausible
        left_out: dict[int, LeftOut] = {}
        parts = []
        for answer, queries in kinds:
            if queries:
                table, rest = answer(queries, top, new, types)
                parts.append(table)
                left_out |= {i: each for (i, _), each in zip(queries, rest, strict=True)}
        table = _in_order(pd.concat(parts), top) if parts else pd.DataFrame(columns=COLUMNS)
        table.attrs["left_out"] = [left_out[i]._asdict() for i, _ in numbered]
        return table

    def _steps(
        self, queries: list[tuple[int, Question]], top: int, new: bool, types: Allowed | None
    ) -> tuple[pd.DataFrame, list[LeftOut]]:
        """Answers to queries with one relation."""
        n, num_relations = self.dataset.num_entities, self.dataset.num_relations
        walked = [q.walked(num_relations) for _, q in queries]
        hr = torch.tensor([(start, path[0]) for start, path in walked])
        # The likeliest of the answers with the best scores, as many as in the fit.
        enough = max(top, ANSWERS) if new else top
        found = best_answers(self.scorer, hr, self.known, n, enough, new=new, types=types)
        triples = found.triples(hr)
        table = self._table(
            queries, found.query, found.tail, found.score,
            probability=self.probabilities(triples, found.scores, found.is_known),
            held_by=self._split_of(triples),
        )  # fmt: skip
        rows = self.known.rows(hr)
        tails = [self.known.tails[self.known.expand(row)[1]] for row in rows.split(1)]
        return table, self._left_out(tails, new, found.left_out.tolist())

    def _left_out(self, known: Sequence[Tensor], new: bool, types: Sequence[int]) -> list[LeftOut]:
        """The answers to each query that are not in its table, from its known answers `(m,)`."""
        names = self.dataset.vocabulary.entities
        return [
            LeftOut(len(own), [names[i] for i in own[:EXAMPLES].tolist()], other)
            if new
            else LeftOut(0, [], other)
            for own, other in zip(known, types, strict=True)
        ]

    @cached_property
    def passes(self) -> Passes | None:
        """The passes that explain scores, on the CPU; None unless the model is all-paths."""
        return self.scorer.passes and self.scorer.passes.on_cpu()

    @standard_state()
    def explain(self, head: str, relation: str, tail: str, top: int = 10) -> Explanation:
        """The relation paths that carry the score of a triple, strongest first.

        Args:
            head, relation, tail: labels or readable names; `^r` is the inverse of the relation `r`.
            top: maximum number of paths.

        Raises:
            RunError: when the run has no all-paths part.
            DataError: when a label is not known.
        """
        passes = self.passes
        if passes is None:
            raise RunError(
                f"{self.run.path} reads one path at a time, its scores have no paths to show. "
                "Remedy: train with an [all_paths] section."
            )
        names = self.dataset.vocabulary
        h, path, t = self.labels.entity(head), self.labels.path(relation), self.labels.entity(tail)
        if len(path) > 1:
            raise DataError(
                f"{quoted(relation)} is a path of {len(path)} relations, and only the score of one "
                "relation has an explanation. Remedy: explain one relation of the path."
            )
        (r,) = path
        return Explanation.of(self.scorer, passes, (h, r, t), names, top)

    def score_triples(
        self, rows: Iterable[Sequence[object]], strict: bool = False, progress: bool = False
    ) -> pd.DataFrame:
        """Score given triples: the answer to "how likely is this one?".

        Args:
            rows: triples of labels or readable names; `^r` is the inverse of the relation `r`, and
                `r1/r2` a path.
            strict: refuse the triples if one of them cannot be scored.
            progress: show a progress bar.

        Returns:
            One row per triple, in the given order: labels of `head`, `relation` and `tail`,
            `score`, `probability`, in `known` the split that has the triple, or an empty string,
            and `reason`. A triple with an unknown label has the given texts, NaN as score, and the
            reason; `reason` is empty for all others. `score` and `probability` are those of the
            tail as an answer, see `ask`. A path has no probability; `known` is `facts` if known
            facts lead along it from head to tail.

        Raises:
            DataError: for a row that does not have three cells; if `strict`, for the first triple
                that cannot be scored, with the number of such triples.
            ScoreError: when a score is NaN or infinite, naming the query.
        """
        parsed = parse_triples(rows, self.labels)
        unknown = [i for i, reason in enumerate(parsed.reasons) if reason]
        if strict and unknown:
            where = f"triple {unknown[0] + 1:,}"
            if len(unknown) > 1:
                where += f" (the first of {len(unknown):,} that cannot be scored)"
            one = len(parsed.texts) == 1
            raise refusal(parsed.texts[unknown[0]], self.labels, None if one else where)
        names, triples = self.dataset.vocabulary, parsed.ids
        table = pd.DataFrame(parsed.texts, columns=TRIPLE_COLUMNS[:3], dtype=object)
        table[["score", "probability"]] = np.nan
        table["known"] = ""
        table["reason"] = parsed.reasons
        if len(triples):
            place = parsed.row.numpy()
            n = self.dataset.num_entities
            scores = triple_scores(self.scorer, triples, self.known, n, progress=progress)
            held = self._split_of(triples)
            is_known = torch.tensor([bool(split) for split in held])
            labels = zip(*((names.entities[h], names.steps[r], names.entities[t])
                           for h, r, t in triples.tolist()), strict=True)  # fmt: skip
            for name, column in zip(TRIPLE_COLUMNS, labels, strict=False):
                table.loc[place, name] = column
            table.loc[place, "score"] = scores[:, 0].numpy()
            table.loc[place, "probability"] = self.probabilities(triples, scores, is_known)
            table.loc[place, "known"] = held
        if parsed.paths:
            self._fill_paths(table, parsed.paths, progress)
        return table

    def _fill_paths(
        self, table: pd.DataFrame, triples: Sequence[PathTriple], progress: bool
    ) -> None:
        """Fill in the rows of `score_triples` whose relation is a path."""
        names = self.dataset.vocabulary
        rows_of: dict[tuple[int, tuple[int, ...]], list[PathTriple]] = {}
        for each in triples:
            rows_of.setdefault((each.head, each.path), []).append(each)
        walked, size = list(rows_of), whole_rows(self.dataset.num_entities)
        with Progress(len(walked), "paths", "path", shown=progress) as bar:
            for part in (walked[i : i + size] for i in range(0, len(walked), size)):
                for (head, path), scores in zip(part, self._score_paths(part), strict=True):
                    ends = set(follow(self.known, head, path).tolist())
                    relation = "/".join(names.steps[r] for r in path)
                    for row, _, _, tail in rows_of[head, path]:
                        table.loc[row, list(TRIPLE_COLUMNS[:4])] = [
                            names.entities[head], relation, names.entities[tail],
                            float(scores[tail]),
                        ]  # fmt: skip
                        table.loc[row, "known"] = "facts" if tail in ends else ""
                bar.update(len(part))

    @standard_state()
    def probabilities(self, triples: Tensor, scores: Tensor, is_known: Tensor) -> np.ndarray:
        """`(m,)` float64, NaN for known facts; the arguments are those of `top_k.Answers`."""
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
        """The first split that has each triple, or an empty string."""
        held = self.known.contains(triples)
        if not held.any():  # the index of train, the largest, is not needed
            return [""] * len(triples)
        holds = {split: self.known_in(split).contains(triples).tolist() for split in SPLITS}
        return [
            next((split for split in SPLITS if holds[split][i]), "") for i in range(len(triples))
        ]

    def _paths(
        self, queries: list[tuple[int, Question]], top: int, new: bool, types: Allowed | None
    ) -> tuple[pd.DataFrame, list[LeftOut]]:
        """Answers to queries with a path of several relations; see `ComposedSteps`."""
        n, num_relations = self.dataset.num_entities, self.dataset.num_relations
        walked = [q.walked(num_relations) for _, q in queries]
        scores = self._score_paths(walked)
        is_known = torch.zeros(len(queries), n, dtype=torch.bool)
        ends = [follow(self.known, start, relations) for start, relations in walked]
        for row, end in zip(is_known, ends, strict=True):
            row[end] = True
        ranked = scores.masked_fill(is_known, -torch.inf) if new else scores
        other = torch.zeros_like(is_known)
        if types is not None:
            last = torch.tensor([relations[-1] for _, relations in walked])
            other = ~(types.of_relations(last) | is_known)
            ranked = ranked.masked_fill(other, -torch.inf)
        value, tail = ranked.topk(min(top, n), dim=1)
        left_out = (other & (scores > value[:, -1:])).sum(1)
        query, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        tail = tail[query, place]
        none = np.full(len(query), np.nan)
        led = ["facts" if fact else "" for fact in is_known[query, tail].tolist()]
        table = self._table(
            queries, query, tail, value[query, place], probability=none, held_by=led
        )
        return table, self._left_out(ends, new, left_out.tolist())

    def _score_paths(self, walked: Sequence[tuple[int, tuple[int, ...]]]) -> Tensor:
        """`(q, num_entities)`: the scores of all tails of paths, each from an entity."""
        length = torch.tensor([len(path) for _, path in walked])
        path = torch.zeros(len(walked), int(length.max()), dtype=torch.long)
        for row, (_, relations) in zip(path, walked, strict=True):
            row[: len(relations)] = torch.tensor(relations)
        head = torch.tensor([start for start, _ in walked])
        composed = ComposedSteps(self.scorer, self.known_in("train"), self.dataset.num_entities)
        return composed.score_paths(head, path, length)

    def _relations(
        self, queries: list[tuple[int, Question]], top: int, new: bool, types: Allowed | None
    ) -> tuple[pd.DataFrame, list[LeftOut]]:
        """Answers to relation queries `(h, ?, t)`."""
        num_relations = self.dataset.num_relations
        pairs = torch.tensor([(q.head, q.tail) for _, q in queries])
        chance_of = self.pairs()
        if chance_of is None:
            scores = self.relations().score_t(pairs)
            chance = torch.full_like(scores, torch.nan)
        else:
            scores, chance = chance_of.of(pairs, self.dataset, self.known)
        triples = triples_of(pairs, num_relations)
        is_known = self.known.contains(triples).view(scores.shape)
        other = torch.zeros_like(is_known)
        if types is not None:
            other = ~(types.of_triples(triples).view(scores.shape) | is_known)
        ranked = scores.masked_fill(other | (is_known & new), -torch.inf)
        value, best = ranked.topk(min(top, num_relations), dim=1)
        query, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        best = best[query, place]
        held = self._split_of(triples[query * num_relations + best])
        table = self._table(
            queries, query, best, value[query, place],
            probability=chance.masked_fill(is_known, torch.nan)[query, best].numpy(), held_by=held,
        )  # fmt: skip
        names = self.dataset.vocabulary.relations
        left_out = (other & (scores > value[:, -1:])).sum(1).tolist()
        known = [torch.nonzero(row).flatten().tolist() if new else [] for row in is_known]
        return table, [
            LeftOut(len(own), [names[r] for r in own[:EXAMPLES]], types)
            for own, types in zip(known, left_out, strict=True)
        ]

    def _table(
        self,
        queries: list[tuple[int, Question]],
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
            number, question = queries[q]
            relation = "/".join(names.steps[r] for r in question.path or (a,))
            head = a if question.asked == "head" else question.head
            tail = a if question.asked == "tail" else question.tail
            entities = names.entities[head], names.entities[tail]
            rows.append((number, question.asked, entities[0], relation, entities[1]))
        table = pd.DataFrame(rows, columns=COLUMNS[:5])
        return table.assign(
            score=score.double().numpy(), probability=probability, known=np.array(held_by, object)
        )


def _in_order(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """The first `top` rows of each query: known answers, then the others, likeliest first."""
    chance = table["probability"].fillna(0.0)
    order = np.lexsort((-table["score"], -chance, table["known"] == "", table["question"]))
    table = table.iloc[order]
    return table.groupby("question", sort=False).head(top).reset_index(drop=True)


def follow(known: AnswerIndex, start: int, path: Sequence[int]) -> Tensor:
    """`(m,)` int64: the entities at the end of a path of known facts."""
    here = torch.tensor([start])
    for relation in path:
        rows = known.rows(torch.stack([here, torch.full_like(here, relation)], dim=1))
        here = torch.unique(known.tails[known.expand(rows)[1]])
    return here
