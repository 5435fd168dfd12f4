"""Rendezvous: the processes that `torchrun` started on one or several machines find each other."""

from __future__ import annotations

import os
import secrets
import socket
import time
from datetime import timedelta
from ipaddress import ip_address

import psutil
from torch.distributed.distributed_c10d import PrefixStore, Store

from kgtool.errors import KGToolError

_PAUSE = 0.05  # seconds between two polls of the store


def private_store(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """The part of torchrun's store that only these processes use.

    A store outlives the processes that a restart replaces, and each machine counts restarts by
    itself. So each process writes a random call, and the first process answers it with the random
    prefix of the part. No process reads the answer to a call of a dead process.

    Args:
        store: the store that all processes see.
        rank: of this process.
        world_size: the number of processes to wait for.
        timeout: the longest wait.

    Raises:
        KGToolError: when a process does not come in time.
    """
    if rank:
        call = secrets.token_hex(8)
        store.set(f"call/{rank}", call)
        name = store.get(f"answer/{call}").decode()
        store.add(name, 1)
        return PrefixStore(name, store)
    name = secrets.token_hex(8)
    deadline = time.monotonic() + timeout.total_seconds()
    while store.add(name, 0) < world_size - 1:
        for call in (f"call/{other}" for other in range(1, world_size)):
            if store.check([call]):
                store.set(f"answer/{store.get(call).decode()}", name)
        if time.monotonic() > deadline:
            raise KGToolError(f"fewer than {world_size} processes joined within {timeout}")
        time.sleep(_PAUSE)
    return PrefixStore(name, store)


def network_interface(store: Store, rank: int, world_size: int) -> str:
    """The network interface by which this machine reaches the others.

    By default gloo takes the interface of the machine's own name. On many machines that name is a
    loopback address, which no other machine reaches.
    """
    own = _source_address(os.environ["MASTER_ADDR"])
    store.set(f"address/{rank}", own)
    if ip_address(own).is_loopback:
        addresses = [store.get(f"address/{i}").decode() for i in range(world_size)]
        own = next((_source_address(a) for a in addresses if not ip_address(a).is_loopback), own)
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, all_ in interfaces if own in {a.address for a in all_})


def _source_address(host: str) -> str:
    """The address from which this machine sends to another; this sends nothing."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        address: str = probe.getsockname()[0]
    return address
