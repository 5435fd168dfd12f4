"""The optimiser, its learning rate by step, and the precision of its matrix products."""

from __future__ import annotations

import math

import torch
from torch import nn

from kgtool.config import TrainingConfig


def make_optimizer(
    settings: TrainingConfig, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """Adam, AdamW or Adagrad over the parameters."""
    kind = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
    }[settings.optimizer]
    rate, decay = settings.learning_rate, settings.weight_decay
    # Fused: one reading of parameter, gradient and state an update.
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate(settings: TrainingConfig, step: int, total_steps: int) -> float:
    """The rate of a step, counted from 0: linear warm-up, then decay to 0 at `total_steps`."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    share = step / total_steps
    if settings.decay == "linear":
        warm *= 1 - share
    elif settings.decay == "cosine":
        warm *= (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * warm


def training_dtype(precision: str) -> torch.dtype:
    """The dtype of training's matrix products: bfloat16 only where it is asked for or gains."""
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16_units() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_bfloat16_units() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; without, it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
