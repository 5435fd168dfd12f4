"""The optimiser, its learning rate per step, and the precision of the matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from kgtool.config import TrainingConfig
from kgtool.distributed import process_group

# The first step of Adagrad is the rate times a sign; later steps shrink with the sum of squared
# gradients. An embedding moves only when a batch uses its entity. A weight matrix moves at every
# step and in every entry, and diverges at the rate of the embeddings.
ADAGRAD_WEIGHTS = 0.1


def make_optimizer(
    settings: TrainingConfig,
    parameters: Sequence[nn.Parameter],
    embeddings: Sequence[nn.Parameter],
    sparse: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Adam, AdamW or Adagrad, with one group per parameter.

    Args:
        settings: kind, learning rate and weight decay.
        parameters: all parameters.
        embeddings: the parameters with a row per entity or relation. With Adagrad, all others
            learn at a tenth of the rate.
        sparse: the parameters whose gradient holds some rows only. Only Adagrad supports them; it
            changes these rows only.

    Returns:
        The optimiser; the `share` of a group is its fraction of the learning rate.
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
            # A fused update reads parameter, gradient and state once.
            "fused": id(parameter) not in some,
        }
        for parameter in parameters
    ]
    return kind(groups, lr=rate, weight_decay=decay, fused=True)


def clip_norm(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradients, dense or coalesced sparse, to a norm of at most `largest`.

    With several processes, all hold the same dense gradients, and each holds the sparse gradients
    of its own rows. The norm covers the gradients of all processes.
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
    """Set the learning rate of each group to its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def learning_rate(settings: TrainingConfig, step: int, total_steps: int) -> float:
    """The rate at a step, counted from 0: linear warm-up, then the schedule to `total_steps`."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    share = step / total_steps
    if settings.lr_schedule == "linear":
        warm *= 1 - share
    elif settings.lr_schedule == "cosine":
        warm *= (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * warm


def training_dtype(precision: str, device: str = "cpu") -> torch.dtype:
    """The dtype of the matrix products of training.

    `auto` selects bfloat16 on a CPU with bfloat16 units, and float32 elsewhere. On a GPU, the
    messages bound a pass, not its products, so bfloat16 gains nothing.
    """
    if precision == "auto":
        faster = device == "cpu" and _has_bfloat16_units()
        precision = "bfloat16" if faster else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_bfloat16_units() -> bool:
    """Whether the CPU has bfloat16 units; without them, bfloat16 is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
