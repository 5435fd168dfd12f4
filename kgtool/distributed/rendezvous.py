"""How the processes that `torchrun` has started on one or many machines find each other."""

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

_PAUSE = 0.05  # seconds between looks for who has come


def own_store(store: Store, own: int, count: int, patience: timedelta) -> Store:
    """The part of torchrun's store that these processes have for themselves.

    A store outlives the processes that a restart replaces, and machines count restarts of their
    own. So each process calls out, and the first answers with the name of the part; what it
    answers to one that is dead, nobody hears.

    Args:
        store: what all processes see.
        own: this process, of `count`.
        count: how many are to come.
        patience: how long to wait for them.

    Raises:
        KGToolError: when they do not come.
    """
    if own:
        call = secrets.token_hex(8)
        store.set(f"call/{own}", call)
        name = store.get(f"answer/{call}").decode()
        store.add(name, 1)
        return PrefixStore(name, store)
    name = secrets.token_hex(8)
    deadline = time.monotonic() + patience.total_seconds()
    while store.add(name, 0) < count - 1:
        for call in (f"call/{other}" for other in range(1, count)):
            if store.check([call]):
                store.set(f"answer/{store.get(call).decode()}", name)
        if time.monotonic() > deadline:
            raise KGToolError(f"not all of {count} processes came within {patience}")
        time.sleep(_PAUSE)
    return PrefixStore(name, store)


def interface(store: Store, own: int, count: int) -> str:
    """The network interface by which this machine reaches the others.

    Left alone, gloo takes that of the machine's name, which many machines know as a loopback
    address of their own, where no other reaches them.
    """
    found = _source(os.environ["MASTER_ADDR"])
    store.set(f"address/{own}", found)
    if ip_address(found).is_loopback:
        others = [store.get(f"address/{i}").decode() for i in range(count)]
        found = next((_source(a) for a in others if not ip_address(a).is_loopback), found)
    known = psutil.net_if_addrs().items()
    return next(name for name, all_ in known if found in {a.address for a in all_})


def _source(host: str) -> str:
    """The address from which this machine sends to another; nothing is sent."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        address: str = probe.getsockname()[0]
    return address
