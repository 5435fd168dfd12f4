"""The sections of the configuration: names, types, limits and descriptions of settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kgtool.errors import ConfigError

# Far above any trained model, and low enough that products of sizes fit in an int64. The machine's
# memory is checked when the model is built, see `kgtool.runs.run.build_model`.
LARGEST = 2**16  # dims and the like
LONGEST = 100  # layers, or edges of a path


class Section(BaseModel):
    """A section: its settings are checked at once, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(
            f"{name} cannot be set: a configuration does not change. Remedy: make a new one, as in "
            "kgtool.load_config(config.model_dump(), ['training.epochs=5'])."
        )


class EncoderConfig(Section):
    """The R-GCN encoder (Schlichtkrull et al. 2018). With 0 layers, states are the embeddings."""

    kind: Literal["entities", "relations"] = Field(
        "entities",
        description="Nodes of the encoder's graph. `entities`: the knowledge graph; `relations`: "
        "how its relations meet, for a model that answers on any graph (all_paths only).",
    )
    layers: int = Field(
        1,
        ge=0,
        le=LONGEST,
        description="Number of R-GCN layers, 0 to 100. With 0, the states are the embeddings.",
    )
    num_bases: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Number of bases that the relation matrices share (basis decomposition). "
        "Unset: 2, unless num_blocks is set.",
    )
    num_blocks: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Number of diagonal blocks of each relation matrix (block-diagonal "
        "decomposition). Must divide dim. Excludes num_bases.",
    )
    edge_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of edges that each training step drops, each with its inverse. "
        "0 to below 1.",
    )
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout on the states that each layer reads. 0 to below 1.",
    )
    fanout: int = Field(
        10,
        ge=1,
        description="Maximum number of in-edges that a layer samples per entity. "
        "Only negative sampling uses it.",
    )
    entity_init: Literal["embedding", "relations", "features"] = Field(
        "embedding",
        description="Initial state of an entity. `embedding`: its own; `relations`: the mean "
        "of the relations at its edges (NodePiece); `features`: features alone.",
    )
    features: str | list[str] | None = Field(
        None,
        description="Vectors of entities, projected and added to initial states: a .npy, .parquet, "
        ".tsv or .csv, or a list of them; `data`: those of the data set.",
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_decomposition(cls, settings: Any) -> Any:
        """Two bases, where neither bases nor blocks are set; and the features of the data set."""
        if not isinstance(settings, dict):
            return settings
        if settings.get("entity_init") == "features" and settings.get("features") is None:
            settings = {**settings, "features": "data"}
        if settings.get("features") in ("", []):
            raise ValueError("features names no file. Remedy: name one, or leave features out")
        if settings.get("kind") == "relations":
            return settings
        if settings.get("num_bases") is None and settings.get("num_blocks") is None:
            return {**settings, "num_bases": 2}
        return settings

    @property
    def decomposition(self) -> Literal["basis", "block"]:
        """How the relation matrices share parameters."""
        return "basis" if self.num_blocks is None else "block"


# The cells that a setting of `one_path` fits, for settings that do not fit all.
CELLS_OF: dict[str, tuple[str, ...]] = {
    "norm": ("transe", "rotate"),
    "margin": ("transe", "rotate"),
    "dura": ("gru", "distmult", "complex", "tucker"),
    "n3": ("distmult", "complex"),
    "relation_prediction": ("transe", "distmult", "complex", "tucker"),
}


class OnePathConfig(Section):
    """The one-path decoder, and how it is trained: on queries (head, relation, ?)."""

    dim: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Dimension of the one-path part where the model has all paths too. Unset: dim.",
    )
    cell: Literal["gru", "transe", "distmult", "complex", "rotate", "tucker"] = Field(
        "gru",
        description="How the decoder reads a relation. `gru`: a GRU cell; or as in TransE, "
        "DistMult, ComplEx, RotatE or TuckER, each with states of inverse relations.",
    )
    norm: Literal[1, 2] = Field(
        2,
        description="Norm of the distance in TransE and RotatE. `1`: the sum of absolute values, "
        "of complex numbers in RotatE; `2`: the Euclidean distance.",
    )
    input_dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout on the head state and on the relation states. 0 to below 1.",
    )
    output_dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout on the last state of the path. 0 to below 1.",
    )
    batch_size: int = Field(
        1024,
        ge=1,
        le=LARGEST,
        description="Number of queries (head, relation) per step; of triples with negative "
        "sampling.",
    )
    training: Literal["1vsAll", "1vsAll_unmasked", "KvsAll", "negative_sampling"] = Field(
        "1vsAll",
        description="`1vsAll`: an answer against all non-answers; `1vsAll_unmasked`: against all "
        "entities; `KvsAll`: all answers at once; or `negative_sampling`.",
    )
    num_negatives: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="Negative entities sampled per step, shared by its queries. At least 1 with "
        "negative sampling, 0 otherwise.",
    )
    adversarial_temperature: float = Field(
        0.0,
        ge=0,
        description="Self-adversarial negative sampling (Sun et al. 2019): negatives count by a "
        "softmax of their scores times this. 0: equally. Needs loss = 'bce'.",
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="Added to the scores of TransE and RotatE in the loss; `gamma` of Sun et al. "
        "2019. Needs loss = 'bce'.",
    )
    loss: Literal["softmax", "bce"] = Field(
        "softmax",
        description="`softmax`: cross-entropy over the entities; `bce`: binary cross-entropy of "
        "each entity.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target probability that is spread evenly over all entities. "
        "0 to below 1.",
    )
    dura: float = Field(
        0.0,
        ge=0,
        description="Weight of the DURA regulariser: squared norms of query and answer "
        "(Zhang et al. 2020). 0 turns it off.",
    )
    n3: float = Field(
        0.0,
        ge=0,
        description="Weight of the N3 regulariser: cubed absolute values of head, relation and "
        "answer (Lacroix et al. 2018). 0 turns it off.",
    )
    relation_prediction: float = Field(
        0.0,
        ge=0,
        description="Weight of a further loss: predict the relation between head and answer "
        "(Chen et al. 2021). 0 turns it off.",
    )
    remove_target_edges: Literal["none", "edge"] = Field(
        "edge",
        description="Edges removed from message passing in training. `edge`: the target triples "
        "of the step and their inverses; `none`: no edge.",
    )
    path_query_ratio: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Path queries (Guu et al. 2015) per step, as a ratio of the batch size; also "
        "the weight of their loss. 0 to 100.",
    )
    walk_ratio: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Random walks per step that the model learns to continue, as a ratio of the "
        "batch size; also the weight of their loss. 0 to 100.",
    )
    max_path_length: int = Field(
        3,
        ge=2,
        le=LONGEST,
        description="Maximum number of relations in a path query or walk of training. 2 to 100.",
    )

    def check(self, dim: int) -> None:
        """Refuse settings that do not fit each other, or the dimension of states.

        Raises:
            ValueError: naming the setting.
        """
        for key, cells in CELLS_OF.items():
            if (
                getattr(self, key) != type(self).model_fields[key].default
                and self.cell not in cells
            ):
                raise ValueError(
                    f"one_path.{key} does not fit one_path.cell = {self.cell!r}: it is for "
                    f"{', '.join(cells)}"
                )
        if self.cell in ("complex", "rotate") and dim % 2:
            raise ValueError(
                f"one_path.cell = {self.cell!r} needs an even dim, not {dim}: half of it are real "
                "parts, half imaginary parts"
            )
        if self.training == "1vsAll_unmasked" and self.loss != "softmax":
            raise ValueError(
                "one_path.training = '1vsAll_unmasked' needs one_path.loss = 'softmax': with "
                "'bce', known answers would count as wrong"
            )
        if self.margin and self.loss != "bce":
            raise ValueError("one_path.margin needs one_path.loss = 'bce': a softmax ignores it")
        if self.adversarial_temperature and not (
            self.training == "negative_sampling" and self.loss == "bce"
        ):
            raise ValueError(
                "one_path.adversarial_temperature needs one_path.training = 'negative_sampling' "
                "and one_path.loss = 'bce'"
            )


class AllPathsConfig(Section):
    """The all-paths GRU decoder, and how it is trained: one pass per head serves its targets."""

    layers: int = Field(
        4,
        ge=1,
        le=LONGEST,
        description="Number of message passing layers, and so the maximum path length in edges. "
        "1 to 100.",
    )
    mlp_dim: int = Field(
        64,
        ge=1,
        le=LARGEST,
        description="Width of the hidden layer in the score function. A power of two is fastest.",
    )
    node_budget: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="Maximum number of entities that a layer adds to a pass; it reads at most 64 "
        "edges for each. 0: no limit.",
    )
    batch_size: int = Field(
        8, ge=1, le=LARGEST, description="Number of heads per step. Each head takes one pass."
    )
    max_targets: int = Field(
        16, ge=1, le=LARGEST, description="Maximum number of target edges per head."
    )
    max_target_ratio: float = Field(
        1 / 3,
        gt=0,
        le=1,
        description="Maximum fraction of the edges of a head that become targets (at least one "
        "edge does). Above 0 to 1.",
    )
    remove_target_edges: Literal["edge", "pair"] = Field(
        "edge",
        description="`edge`: remove the target triple and its inverse; `pair`: remove every edge "
        "between its head and tail (NBFNet).",
    )
    edge_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the other edges that each training step drops. 0 to below 1.",
    )


class PretrainConfig(Section):
    """Pre-training on several graphs; the data set of the run is held out, for validation."""

    graphs: dict[str, float] = Field(
        {},
        description="Graphs to learn from: a path or a name from `kgtool data list`, with its "
        "share of the steps that take real graphs. Only their train split is used.",
    )
    synthetic: float = Field(
        0.4, ge=0, le=1, description="Fraction of the steps that take a synthetic graph. 0 to 1."
    )

    @property
    def shares(self) -> dict[str, float]:
        """The share of all steps that each graph takes; synthetic graphs take the rest."""
        scale = (1 - self.synthetic) / (sum(self.graphs.values()) or 1)
        return {name: share * scale for name, share in self.graphs.items()}

    def check(self, conditional: bool) -> None:
        """Check the settings, for a model that is conditional or not.

        Raises:
            ValueError: if they do not fit; the message gives the remedy.
        """
        if not conditional:
            raise ValueError(
                "[pretrain] is for a model that answers on any graph. Remedy: set encoder.kind = "
                "'relations', with the section [all_paths], or leave [pretrain] out"
            )
        if any(share <= 0 for share in self.graphs.values()):
            raise ValueError("a share of pretrain.graphs is not above 0. Remedy: leave it out")
        if not self.graphs and self.synthetic < 1:
            raise ValueError(
                "pretrain.graphs names no graph. Remedy: name some, or set pretrain.synthetic = 1.0"
            )
        if self.graphs and self.synthetic == 1:
            raise ValueError(
                "pretrain.synthetic = 1.0 leaves no step to pretrain.graphs. Remedy: lower it, or "
                "name no graphs"
            )


class PartTrainingConfig(Section):
    """Optimiser, learning rate, precision and validation."""

    epochs: int = Field(
        100,
        ge=1,
        lt=2**63,
        description="Number of epochs. An epoch is one pass over all queries; for all paths, as "
        "many heads as the graph has, sampled by degree.",
    )
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="Maximum number of steps per epoch. Unset: no limit.",
    )
    optimizer: Literal["adam", "adamw", "adagrad"] = Field(
        "adam",
        description="Optimiser. `adagrad` trains matrices at a tenth of the learning rate of "
        "embeddings. Negative sampling needs `adagrad`.",
    )
    learning_rate: float = Field(
        5e-3, gt=0, description="Learning rate after the warm-up. Above 0."
    )
    weight_decay: float = Field(
        0.0, ge=0, description="Weight decay of the optimiser; decoupled in `adamw`. 0 or more."
    )
    warmup_steps: int = Field(
        200,
        ge=0,
        lt=2**63,
        description="Steps over which the learning rate rises linearly to its full value.",
    )
    lr_schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear",
        description="Learning rate after the warm-up. `linear` and `cosine` fall to 0 at the last "
        "step.",
    )
    max_grad_norm: float | None = Field(
        None, gt=0, description="Gradients are clipped to this norm. Unset: no clipping."
    )
    average_weights: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the steps so far whose weights are averaged, 0 to below 1. "
        "Validation and the finished run use the average, a copy in memory. 0: off.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of matrix products in training. `auto`: bfloat16 where the CPU has "
        "instructions for it, else float32.",
    )
    validate_every: int = Field(
        5, ge=1, lt=2**63, description="Number of epochs between two validations."
    )
    patience: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="Early stopping: number of validations in a row without a better MRR. Unset: "
        "train all epochs.",
    )


class TrainingConfig(PartTrainingConfig):
    """Optimiser, learning rate, precision and validation."""

    one_path: PartTrainingConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_one_path(cls, settings: Any) -> Any:
        """Settings that `[training.one_path]` does not state are those of `[training]`."""
        if not isinstance(settings, dict) or not isinstance(settings.get("one_path"), dict):
            return settings
        common = {key: value for key, value in settings.items() if key != "one_path"}
        return {**settings, "one_path": {**common, **settings["one_path"]}}
