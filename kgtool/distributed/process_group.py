"""Processes that work as one, on one machine or on many: those that `torchrun` has started.

A process that was started alone is a team of one: what is summed over it stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from kgtool.distributed.rendezvous import interface, own_store
from kgtool.errors import KGToolError

# After this long without a word, a process takes the others for dead, and ends with an error.
PATIENCE = timedelta(minutes=30)

# What the processes of a team write to each other beside tensors.
_board: Store | None = None
# Whether tensors on GPUs travel from there.
_by_nccl = False


@contextmanager
def team() -> Iterator[None]:
    """Meet the processes that `torchrun` has started beside this one, for the `with` block.

    They talk by gloo, which needs nothing but a network, and where each has a GPU of its own by
    NCCL of what is there.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    global _board, _by_nccl
    store, own, count = next(rendezvous("env://"))
    store = own_store(store, own, count, PATIENCE)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", interface(store, own, count))
    _board = store
    backend = choose_backend()
    _by_nccl = "nccl" in backend
    with _talking():
        dist.init_process_group(backend, store=store, rank=own, world_size=count, timeout=PATIENCE)
    done = False
    try:
        yield
        done = True
    except SystemExit as end:  # as a command line ends, also where all is well
        done = not end.code
        raise
    finally:
        if done:
            with _talking():
                dist.barrier()  # nobody leaves while another still listens
        dist.destroy_process_group()


def choose_backend() -> str:
    """How this process is to talk; its GPU is chosen, of several, by its number on this machine."""
    gpus = torch.cuda.device_count()
    if not gpus:
        return "gloo"
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    alone = int(os.environ["LOCAL_WORLD_SIZE"]) <= gpus  # NCCL refuses two processes on one
    return "cpu:gloo,cuda:nccl" if alone and dist.is_nccl_available() else "gloo"


@contextmanager
def _talking() -> Iterator[None]:
    """Turn what torch raises when others are not there, a RuntimeError, into a user's."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].partition(". ")[0]  # without gloo's line of code
        raise KGToolError(
            f"another process has ended, or cannot be reached ({reason}). Remedy: see what it "
            "said, and go on with --resume; with --max-restarts, torchrun does that of its own."
        ) from error


def is_news(message: str) -> bool:
    """Whether no other process has asked this of the message: then this one is to say it."""
    if _board is not None:
        with suppress(RuntimeError):  # who keeps the board may have ended
            return _board.add(f"said/{message}", 1) == 1
    return True


def size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def restarted() -> bool:
    """Whether `torchrun` has started the processes anew, after one of them had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def share(count: int) -> slice:
    """This process's part of `count` things in a row."""
    i, n = rank(), size()
    return slice(count * i // n, count * (i + 1) // n)


def every() -> slice:
    """Every n-th of things in a row, those of this process of n."""
    return slice(rank(), None, size())


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, the same bits in all of them.

    Those of a dtype and device travel together.
    """
    if size() == 1:
        return
    for kind in sorted({(tensor.dtype, tensor.device) for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if (tensor.dtype, tensor.device) == kind]
        flat = _sent(torch.cat([tensor.detach().flatten() for tensor in same]))
        with _talking():
            dist.all_reduce(flat)
        sizes = [tensor.numel() for tensor in same]
        for tensor, summed in zip(same, flat.split(sizes), strict=True):
            tensor.copy_(summed.view_as(tensor))


def agree(*wishes: bool) -> tuple[bool, ...]:
    """Whether any process wishes it, for each of these."""
    told = torch.tensor(wishes, dtype=torch.long)
    add_up([told])
    return tuple(told.bool().tolist())


def meet() -> None:
    """Wait for all processes to come here."""
    agree(False)


def exchange(told: Sequence[Tensor]) -> list[Tensor]:
    """Send a tensor to each process, and receive one from each.

    Args:
        told: one for each process, this one included: `(n_i, ...)`, of one dtype, alike but in n_i.

    Returns:
        One from each process, in their order.
    """
    if size() == 1:
        return list(told)
    sizes = torch.tensor([len(tensor) for tensor in told])
    counts = torch.empty_like(sizes)
    flat = torch.cat(list(told)).contiguous()
    with _talking():
        dist.all_to_all_single(counts, sizes)
        received = flat.new_empty(int(counts.sum()), *flat.shape[1:])
        dist.all_to_all_single(received, flat, counts.tolist(), sizes.tolist())
    return list(received.split(counts.tolist()))


def gather(own: Tensor) -> list[Tensor]:
    """What each process has: tensors `(n_i, ...)`, of one dtype, alike but in n_i."""
    return exchange([own] * size())


def bounds(sizes: Sequence[int]) -> tuple[int, ...]:
    """Where each part begins in a row of parts of these sizes, and where the last ends."""
    return (0, *accumulate(sizes))


def say(tensor: Tensor) -> Tensor:
    """What the first process has of a tensor that all have in this size."""
    if size() > 1:
        told = _sent(tensor)
        with _talking():
            dist.broadcast(told, 0)
        if told is not tensor:
            tensor.copy_(told)
    return tensor


def _sent(tensor: Tensor) -> Tensor:
    """The tensor where it can travel from: itself, or a copy on the CPU of one on a GPU."""
    return tensor if _by_nccl else tensor.cpu()
