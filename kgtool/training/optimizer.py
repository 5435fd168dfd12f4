"""The optimiser, its learning rate by step, and the precision of its matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from kgtool.config import TrainingConfig
from kgtool.distributed import process_group

# Adagrad's step is the rate times a sign at first, and shrinks with the squared gradients seen. An
# embedding takes it when its entity is asked for, a weight matrix at every step and in every
# entry at once: at the embeddings' rate, matrices burst.
ADAGRAD_WEIGHTS = 0.1


def make_optimizer(
    settings: TrainingConfig,
    parameters: Sequence[nn.Parameter],
    embeddings: Sequence[nn.Parameter],
    sparse: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Adam, AdamW or Adagrad, with one group a parameter.

    Args:
        settings: kind, learning rate and weight decay.
        parameters: all of them.
        embeddings: those with a row an entity or a relation. Under Adagrad the others learn at a
            tenth of the rate.
        sparse: those whose gradients are of some rows; only Adagrad takes them, and changes these
            rows alone.

    Returns:
        The optimiser; a group's `share` is the part of the learning rate that it takes.
    """
    kind = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
    }[settings.optimizer]
    rate, decay = settings.learning_rate, settings.weight_decay
    weights_share = ADAGRAD_WEIGHTS if settings.optimizer == "adagrad" else 1.0
    rows = {id(embedding) for embedding in embeddings}
    some = {id(parameter) for parameter in sparse}
    groups = [
        {
            "params": [parameter],
            "share": 1.0 if id(parameter) in rows else weights_share,
            # One reading of parameter, gradient and state an update.
            "fused": id(parameter) not in some,
        }
        for parameter in parameters
    ]
    return kind(groups, lr=rate, weight_decay=decay, fused=True)


def clip_norm(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradients, dense or coalesced sparse, to a norm of at most `largest`.

    Of several processes, dense gradients are the same in all, and each has sparse ones of its own
    rows: the norm is that of all of them.
    """
    grads = [grad for parameter in parameters if (grad := parameter.grad) is not None]
    dense = [grad for grad in grads if not grad.is_sparse]
    sparse = [grad._values() for grad in grads if grad.is_sparse]
    norm = nn.utils.get_total_norm(dense)
    if sparse:
        squares = nn.utils.get_total_norm(sparse).square()
        process_group.all_reduce([squares])
        norm = (norm.square() + squares).sqrt()
    for value in (*dense, *sparse):
        value.mul_((largest / (norm + 1e-6)).clamp(max=1.0))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def learning_rate(settings: TrainingConfig, step: int, total_steps: int) -> float:
    """The rate of a step, counted from 0: linear warm-up, then the schedule up to `total_steps`."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    share = step / total_steps
    if settings.lr_schedule == "linear":
        warm *= 1 - share
    elif settings.lr_schedule == "cosine":
        warm *= (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * warm


def training_dtype(precision: str, device: str = "cpu") -> torch.dtype:
    """The dtype of training's matrix products: bfloat16 only where it is asked for or gains.

    On a GPU, where messages bound a pass and not its products, it does not.
    """
    if precision == "auto":
        gains = device == "cpu" and _has_bfloat16_units()
        precision = "bfloat16" if gains else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_bfloat16_units() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; without, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
