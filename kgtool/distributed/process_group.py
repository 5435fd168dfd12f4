"""The process group that `torchrun` starts, on one machine or several: its collective operations.

A process that was started alone is a group of one: its sums and exchanges change nothing.
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

from kgtool.distributed.rendezvous import network_interface, private_store
from kgtool.errors import KGToolError

# A process that waits this long for another one ends with an error.
TIMEOUT = timedelta(minutes=30)

# The key-value store that the processes of the group share.
_store: Store | None = None
# Whether NCCL sends tensors that are on GPUs.
_by_nccl = False


@contextmanager
def joined_group() -> Iterator[None]:
    """Join the process group that `torchrun` started, for the `with` block.

    The backend is gloo, which needs only a network. Where each process has its own GPU, NCCL sends
    the tensors that are on GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    global _store, _by_nccl
    store, own_rank, count = next(rendezvous("env://"))
    store = private_store(store, own_rank, count, TIMEOUT)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", network_interface(store, own_rank, count))
    _store = store
    backend = choose_backend()
    _by_nccl = "nccl" in backend
    with _network_errors():
        dist.init_process_group(
            backend, store=store, rank=own_rank, world_size=count, timeout=TIMEOUT
        )
    done = False
    try:
        yield
        done = True
    except SystemExit as end:  # a command line ends so, with status 0 after success
        done = not end.code
        raise
    finally:
        if done:
            with _network_errors():
                dist.barrier()  # no process leaves while another one still receives
        dist.destroy_process_group()


def choose_backend() -> str:
    """Choose the backend, and the GPU of this process by its local rank."""
    gpus = torch.cuda.device_count()
    if not gpus:
        return "gloo"
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    own_gpu = int(os.environ["LOCAL_WORLD_SIZE"]) <= gpus  # NCCL refuses two processes on one GPU
    return "cpu:gloo,cuda:nccl" if own_gpu and dist.is_nccl_available() else "gloo"


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn the RuntimeError that torch raises for a lost process into a KGToolError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].partition(". ")[0]  # without gloo's line of code
        raise KGToolError(
            f"another process has ended, or cannot be reached ({reason}). Remedy: read its error, "
            "then continue with --resume; torchrun --max-restarts does so by itself."
        ) from error


def is_first_report(message: str) -> bool:
    """Whether no other process has reported this message yet: only the first one prints it."""
    if _store is not None:
        with suppress(RuntimeError):  # the process that holds the store may have ended
            return _store.add(f"reported/{message}", 1) == 1
    return True


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def restarted() -> bool:
    """Whether `torchrun` has restarted the processes after one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def chunk(count: int) -> slice:
    """This process's contiguous chunk of `count` items."""
    i, n = rank(), world_size()
    return slice(count * i // n, count * (i + 1) // n)


def strided() -> slice:
    """This process's items of a sequence: every n-th, from its rank on, for n processes."""
    return slice(rank(), None, world_size())


def all_reduce(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes; all processes get the same bits.

    Tensors of one dtype and device are sent together.
    """
    if world_size() == 1:
        return
    for kind in sorted({(tensor.dtype, tensor.device) for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if (tensor.dtype, tensor.device) == kind]
        flat = _to_send(torch.cat([tensor.detach().flatten() for tensor in same]))
        with _network_errors():
            dist.all_reduce(flat)
        sizes = [tensor.numel() for tensor in same]
        for tensor, summed in zip(same, flat.split(sizes), strict=True):
            tensor.copy_(summed.view_as(tensor))


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set in any process; all processes get the same answer."""
    counts = torch.tensor(flags, dtype=torch.long)
    all_reduce([counts])
    return tuple(counts.bool().tolist())


def barrier() -> None:
    """Wait until all processes have called this."""
    any_rank(False)


def all_to_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Send a tensor to each process, and receive one from each.

    Args:
        tensors: one for each process by rank, this one included: `(n_i, ...)`; they share the
            dtype and all dimensions except the first.

    Returns:
        The received tensors, by rank.
    """
    if world_size() == 1:
        return list(tensors)
    sizes = torch.tensor([len(tensor) for tensor in tensors])
    counts = torch.empty_like(sizes)
    flat = torch.cat(list(tensors)).contiguous()
    with _network_errors():
        dist.all_to_all_single(counts, sizes)
        received = flat.new_empty(int(counts.sum()), *flat.shape[1:])
        dist.all_to_all_single(received, flat, counts.tolist(), sizes.tolist())
    return list(received.split(counts.tolist()))


def all_gather(own: Tensor) -> list[Tensor]:
    """The tensors of all processes, by rank.

    Args:
        own: this process's, `(n_i, ...)`; all share the dtype and all dimensions except the first.
    """
    return all_to_all([own] * world_size())


def offsets(sizes: Sequence[int]) -> tuple[int, ...]:
    """The first position of each of several consecutive parts, and the end of the last part."""
    return (0, *accumulate(sizes))


def broadcast(tensor: Tensor) -> Tensor:
    """Overwrite a tensor by that of the first process; it has the same shape in all processes."""
    if world_size() > 1:
        sent = _to_send(tensor)
        with _network_errors():
            dist.broadcast(sent, 0)
        if sent is not tensor:
            tensor.copy_(sent)
    return tensor


def _to_send(tensor: Tensor) -> Tensor:
    """The tensor, or a copy on the CPU where the backend cannot send from a GPU."""
    return tensor if _by_nccl else tensor.cpu()
