"""The sum of embeddings and all paths, two models that were trained apart:

    score(h, r, t) = all_paths(h, r, t) + λ_r · one_path(h, r, t)

Embeddings that are trained inside an all-paths model hurt it, since they see the edges that are
removed from the paths. Embeddings that are trained apart cannot hurt it so: λ is fitted on valid,
see `kgtool.evaluation.ensemble`, and is 0 where they do not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kgtool.models.model import AllPathsModel, Model, OnePathModel
from kgtool.models.rgcn import RGCNEncoder
from kgtool.models.scorers import EmbeddingScorer, ModelScorer, PassScorer, SumScorer
from kgtool.models.walk_gru import WalkReader


@dataclass(frozen=True, eq=False)
class CombinedScorer(SumScorer, ModelScorer):
    """The scorer of the combined model: it explains by paths, and its states are embeddings.

    Attributes:
        first: scores by all paths.
        second: scores by embeddings.
        weight: `(2 · num_relations,)` float, λ of each relation id.
    """

    first: PassScorer
    second: EmbeddingScorer

    has_states = True

    def entity_states(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)` embeddings of the entities `(n,)` int64; of all entities by default."""
        return self.second.entity_states(entity)

    def relation_states(self) -> Tensor:
        """`(2 · num_relations, d)` embeddings of the relations, inverses included."""
        return self.second.relation_states()

    @property
    def passes(self) -> PassScorer:
        """The all-paths part, whose scores sum over paths."""
        return self.first

    def beyond_passes(self, hrt: Tensor) -> Tensor:
        """`(n,)`: the embeddings' part of the scores of triples `(n, 3)` int64, which is added."""
        return self.scale(hrt[:, 1]) * self.second.score_hrt(hrt)


class CombinedModel(Model):
    """A one-path and an all-paths model, and the weights of their sum.

    Args:
        one_path: the embeddings.
        all_paths: the passes.
    """

    def __init__(self, one_path: OnePathModel, all_paths: AllPathsModel) -> None:
        super().__init__()
        self.one_path = one_path
        self.all_paths = all_paths
        self.mixture = Mixture(len(all_paths.decoder.relations))
        self.graph = all_paths.graph

    @classmethod
    def of(cls, parts: Mapping[str, Model]) -> CombinedModel:
        """The model of the parts `one_path` and `all_paths`."""
        one_path, all_paths = parts["one_path"], parts["all_paths"]
        assert isinstance(one_path, OnePathModel)
        assert isinstance(all_paths, AllPathsModel)
        return cls(one_path, all_paths)

    @property
    def encoder(self) -> RGCNEncoder:  # type: ignore[override]
        """The encoder of the one-path part."""
        return self.one_path.encoder

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row per entity or per relation; the others are weights."""
        return [*self.one_path.embeddings(), *self.all_paths.embeddings()]

    def scorer(self) -> CombinedScorer:
        """The model's scorer, in evaluation mode."""
        return CombinedScorer(
            self.all_paths.scorer(), self.one_path.scorer(), self.mixture.get_buffer("weight")
        )

    def reader(self) -> WalkReader:
        """The reader of walks of the one-path part."""
        return self.one_path.reader()

    def start_entities(self, unseen: Tensor) -> None:
        """As `Model.start_entities`, in the one-path part."""
        self.one_path.start_entities(unseen)


class Mixture(nn.Module):
    """The weight λ of the one-path part by relation id, 0 before it is fitted.

    Args:
        num_relation_ids: number of relations, inverses included.
    """

    def __init__(self, num_relation_ids: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_relation_ids))
        self.rows_of = {"weight": ("relation", 0)}  # see `kgtool.models.model.Model.rows_of`
