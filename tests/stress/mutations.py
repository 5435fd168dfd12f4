"""Mutations that damage or falsify a file: of its bytes, and of the parts of its format.

A mutator takes the bytes of a valid file and a source of random numbers, and returns changed bytes.
Equal random numbers give equal bytes. `tests.stress.strangers` and `test_strangers.py` use the
mutators.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import math
import re
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

# Import before torch: see `benchmarks.common`.
import kgtool  # noqa: F401

# isort: split
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import tomli_w
import torch
from torch import Tensor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Mutator = Callable[[bytes, Random], bytes]

# Labels, names, paths and numbers that a reader may handle wrongly.
TEXTS = (
    "", " ", "\t", "\n", "\r", "\0", "\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "\x9b31m",
    "\u202e",
    "é", "\ufeff", "\u2028", "<script>alert(1)</script>", "[red]", "[/]", "$\\frac$", "%s", "{0}",
    "../../outside", "/etc/passwd", "/dev/zero", "C:\\x", "~", ".", "-", "?", "NA", "nan", "null",
    "=1+1", "'; --", "x" * 70_000, "a/" * 3000,
)  # fmt: skip
NUMBERS = (
    "-1", "0", "1", "0.5", "-0.0", "1e999", "-1e308", "1e-320", "NaN", "Infinity", "2147483648",
    "9223372036854775808", "18446744073709551616", "1000000000000", "9" * 400, "9" * 5000, "0x10",
    "１２",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *TEXTS, None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**12, 10**400, 0.5, -1.5, 1e308,
    math.nan, math.inf,
    [], {}, [[]], {"": {}}, [1, 2], ["a", "b"], {"a": 1},
)  # fmt: skip
DEEP = 200_000  # nested brackets
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")


def any_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, repeat, move or insert some bytes."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(out) + 1)
        to = min(len(out), at + random.choice((1, 2, 8, 64, 4096)))
        kind = random.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at:to]
        elif kind == 3:
            out[at:at] = out[at:to] * random.choice((1, 3, 100))
        elif kind == 4:
            out[at:to] = random.choice((b"\0", b"\xff", b"\n", b"\x7f")) * (to - at)
        elif kind == 5:
            out[at:at] = random.choice(TEXTS[:-2]).encode()
        else:
            other = random.randrange(len(out) + 1)
            out[at:to] = out[other : other + to - at]
    return bytes(out)


def any_text(data: bytes, random: Random) -> bytes:
    """Change a number, a cell, a line, the encoding, the line ends, or some bytes."""
    kind = random.randrange(9)
    if kind == 0 and (found := list(_NUMBER.finditer(data))):
        one = random.choice(found)
        return data[: one.start()] + random.choice(NUMBERS).encode() + data[one.end() :]
    if kind <= 3:
        lines = data.split(b"\n")
        at = random.randrange(len(lines))
        cells = lines[at].split(b"\t")
        cells[random.randrange(len(cells))] = random.choice((*TEXTS, *NUMBERS)).encode()
        return b"\n".join([*lines[:at], b"\t".join(cells), *lines[at + 1 :]])
    if kind == 4:
        lines = data.split(b"\n")
        at, to = random.randrange(len(lines)), random.randrange(len(lines))
        lines[at:at] = [lines[to]] * random.choice((1, 2, 500))
        return b"\n".join(lines)
    if kind == 5:
        lines = data.split(b"\n")
        del lines[random.randrange(len(lines))]
        return b"\n".join(lines)
    if kind == 6:
        wild = data.decode(errors="replace")
        return random.choice(
            (wild.encode("utf-16"), wild.encode("utf-32"), b"\xef\xbb\xbf" + data,
             data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r"), b"", b"\n", b"\0" * 4096)
        )  # fmt: skip
    return any_bytes(data, random)


def edited(value: Any, random: Random) -> Any:
    """A tree of lists and dicts with one node replaced, removed, duplicated or nested deeper."""
    if isinstance(value, (dict, list)) and value and random.random() < 0.85:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = random.choice(keys)
        changed: Any = dict(value) if isinstance(value, dict) else list(value)
        kind = random.randrange(8)
        if kind == 0:
            del changed[key]
        elif kind == 1 and isinstance(changed, dict):
            changed[random.choice(TEXTS)] = changed[key]
        elif kind == 1:
            changed.append(changed[key])
        else:
            changed[key] = edited(value[key], random)
        return changed
    return [value] if random.random() < 0.1 else random.choice(VALUES)


def any_json(data: bytes, random: Random) -> bytes:
    """Change a value of a JSON file, or its text; or nest it deeply."""
    kind = random.randrange(12)
    if kind == 0:
        return b"[" * DEEP + data
    if kind == 1:
        return b'{"a":' * DEEP + data
    if kind <= 3:
        return any_text(data, random)
    return json.dumps(edited(json.loads(data), random)).encode()


def any_json_lines(data: bytes, random: Random) -> bytes:
    """Change a line of JSON."""
    lines = data.splitlines(keepends=True)
    at = random.randrange(len(lines))
    line = any_json(lines[at].strip(), random) + b"\n"
    return b"".join([*lines[:at], line, *lines[at + 1 :]])


def any_toml(data: bytes, random: Random) -> bytes:
    """Change a value of a TOML file, or its text; or nest it deeply."""
    kind = random.randrange(10)
    if kind == 0:
        return b"deep = " + b"[" * DEEP + b"\n" + data
    if kind == 1:
        return b"[" + b"a." * 50_000 + b"b]\n" + data
    if kind == 2:
        return any_text(data, random)
    try:
        return tomli_w.dumps(edited(tomllib.loads(data.decode()), random)).encode()
    except (
        TypeError,
        AttributeError,
        ValueError,
    ):  # values that TOML cannot represent, such as null
        return any_text(data, random)


def any_safetensors(data: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file, the state in it, its length or the tensors."""
    (size,) = struct.unpack("<Q", data[:8])
    header, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = random.randrange(10)
    if kind == 0:
        return any_bytes(data, random)
    if kind == 1:
        length = random.choice((0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", length) + data[8:]
    if kind == 2:
        value = struct.pack("<f", random.choice((float("nan"), float("inf"), -1e38, 1e-45)))
        return data[: 8 + size] + value * (len(tensors) // 4)
    if kind <= 5 and "state" in header.get("__metadata__", {}):
        header["__metadata__"]["state"] = any_json(
            header["__metadata__"]["state"].encode(), random
        ).decode(errors="replace")
    elif kind == 6:
        return struct.pack("<Q", 2 * DEEP) + b"[" * DEEP + b"]" * DEEP
    elif kind <= 8 and (names := [name for name in header if name != "__metadata__"]):
        one = header[random.choice(names)]
        change = random.randrange(4)
        if change == 0:
            one["dtype"] = random.choice(("I64", "BOOL", "F16", "BF16", "F64", "U8", "F8_E4M3", ""))
        elif change == 1:
            one["shape"] = random.choice(
                ([], [0], [1], [2**62, 4], [-1], [2**64], one["shape"][::-1])
            )
        elif change == 2:
            begin, end = one["data_offsets"]
            one["data_offsets"] = random.choice(
                ([0, 2**63], [begin, end + 4], [end, begin], [-1, end], [0, 0])
            )
        else:
            del header[random.choice(names)]
    else:
        header = edited(header, random)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.complex64, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
_ODD = (math.nan, math.inf, -math.inf, -1e38, 1e30, 1e-45, -1, 0, 1, 2, 255, 2**31, 2**62, -(2**63))


def any_checkpoint(data: bytes, random: Random) -> bytes:
    """Change tensors or the state of a checkpoint, and write a correct checksum."""
    tensors, state = _opened(data)
    kind = random.randrange(3)
    if kind != 0:
        for _ in range(random.choice((1, 1, 3))):
            tensors = _other_tensors(tensors, random)
    if kind != 1:
        state = _other_state(state, random)
    return signed(tensors, state)


def _opened(data: bytes) -> tuple[dict[str, Tensor], str]:
    """Read the tensors of a safetensors file, and the JSON in its header."""
    (size,) = struct.unpack("<Q", data[:8])
    state = json.loads(data[8 : 8 + size])["__metadata__"]["state"]
    # Sorted, because the library's order changes each time.
    return dict(sorted(safetensors.torch.load(data).items())), state


def signed(tensors: dict[str, Tensor], state: str) -> bytes:
    """A safetensors file with a checksum like a checkpoint's, with any dtypes and state."""
    plain = safetensors.torch.save({n: t.clone().contiguous() for n, t in tensors.items()})
    (size,) = struct.unpack("<Q", plain[:8])
    zeros = "0" * 64
    own = {"__metadata__": {"sha256": zeros, "state": state}}
    header = json.dumps(own | json.loads(plain[8 : 8 + size])).encode()
    header += b" " * (-len(header) % 8)
    out = struct.pack("<Q", len(header)) + header + plain[8 + size :]
    return out.replace(zeros.encode(), hashlib.sha256(out).hexdigest().encode(), 1)


def _other_state(state: str, random: Random) -> str:
    """Change a number of a JSON text, a value of any kind, or the text."""
    kind = random.randrange(5)
    if kind <= 1 and (found := list(_NUMBER.finditer(state.encode()))):
        one = random.choice(found)
        return state[: one.start()] + random.choice(("2", "3", *NUMBERS)) + state[one.end() :]
    if kind <= 3:
        return json.dumps(edited(json.loads(state), random))
    return any_json(state.encode(), random).decode(errors="replace")


def _other_tensors(tensors: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    """Change values, dtype, shape or name of a tensor; remove, duplicate or swap it."""
    if not tensors:
        return tensors
    out = dict(tensors)
    name, other = random.choice(list(out)), random.choice(list(out))
    tensor, kind = out[name], random.randrange(9)
    if kind <= 2:
        value = torch.tensor(random.choice(_ODD), dtype=torch.float64).to(tensor.dtype)
        flat = tensor.clone().reshape(-1)
        at = random.randrange(len(flat)) if len(flat) else 0
        flat[slice(None) if kind == 0 else slice(at, at + 1)] = value
        out[name] = flat.reshape(tensor.shape)
    elif kind == 3 and not tensor.is_complex():
        out[name] = tensor.to(random.choice(_DTYPES))
    elif kind <= 5:
        out[name] = _reshaped(tensor, random)
    elif kind == 6:
        del out[name]
    elif kind == 7:
        ends = ("x", f"model.{name}", f"optimizer.{name}", f"{name}.step", "optimizer.x")
        out[random.choice((*TEXTS[:-2], *ends))] = out[name]
        if random.random() < 0.5:
            del out[name]
    else:
        out[name], out[other] = out[other], tensor
    return out


def _reshaped(tensor: Tensor, random: Random) -> Tensor:
    """The values, or more or fewer of them, in another shape."""
    flat = tensor.reshape(-1)
    ways: list[Callable[[], Tensor]] = [
        lambda: flat,
        lambda: tensor.unsqueeze(0),
        lambda: tensor.unsqueeze(-1),
        lambda: tensor.reshape(tensor.shape[::-1]),
        lambda: flat[:0],
        lambda: torch.empty(0, 2**40, dtype=tensor.dtype),
        lambda: flat[0].clone() if len(flat) else flat,
        lambda: tensor[:-1] if tensor.dim() else flat,
        lambda: torch.cat([tensor, tensor]) if tensor.dim() else flat.repeat(2),
    ]
    return random.choice(ways)()


def any_table(data: bytes, random: Random) -> bytes:
    """Change the bytes of a Parquet file, or the types, names or nulls of its columns."""
    kind = random.randrange(6)
    if kind <= 2:
        return any_bytes(data, random)
    table = pq.read_table(io.BytesIO(data))
    at = random.randrange(table.num_columns)
    name, rows = table.column_names[at], table.num_rows
    odd: list[Any] = [
        [None] * rows, [[1]] * rows, [{"a": 1}] * rows, [b"\xff"] * rows, [float("nan")] * rows,
        [-1] * rows, [True] * rows, [random.choice(TEXTS)] * rows, [2**63 - 1] * rows,
    ]  # fmt: skip
    if kind == 3:
        table = table.set_column(at, name, pa.array(random.choice(odd)))
    elif kind == 4:
        table = table.append_column(random.choice((name, *TEXTS)), pa.array(random.choice(odd)))
    else:
        table = random.choice((table.slice(0, 0), table.remove_column(at), table.select([])))
    if random.random() < 0.3:
        note = random.choice((b"", b"{", b"[]", b'{"index_columns": ["x"]}', b'{"columns": 1}'))
        table = table.replace_schema_metadata({b"pandas": note})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def packed(compression: str) -> Mutator:
    """A function that changes a compressed file, or its content."""
    ways: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "gz": (gzip.compress, gzip.decompress),
        "bz2": (bz2.compress, bz2.decompress),
        "xz": (lzma.compress, lzma.decompress),
        "zst": (zstd, unzstd),
    }
    pack, unpack = ways[compression]

    def change(data: bytes, random: Random) -> bytes:
        if random.random() < 0.5:
            return any_bytes(data, random)
        return pack(any_text(unpack(data), random))

    return change


def zstd(data: bytes) -> bytes:
    """Compress bytes with zstd."""
    out: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return out


def unzstd(data: bytes) -> bytes:
    """Decompress bytes that `zstd` compressed."""
    return bytes(pa.CompressedInputStream(io.BytesIO(data), "zstd").read())


_TYPES = (
    tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z",
)  # fmt: skip


def any_tar(data: bytes, random: Random) -> bytes:
    """Change the bytes of a `.tar.gz`, or a member: its name, type, link, size or headers."""
    plain = gzip.decompress(data)
    kind = random.randrange(5)
    if kind == 0:
        return any_bytes(data, random)
    if kind == 1:
        return gzip.compress(any_bytes(plain, random))
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        members = old.getmembers()
        chosen = random.choice(members)
        for member in members:
            file = old.extractfile(member)
            if member is chosen:
                change = random.randrange(5)
                if change == 0:
                    prefix = random.choice(("../", "/", "a/../../", "./", "x" * 300 + "/"))
                    member.name = prefix + member.name
                elif change == 1:
                    member.type = random.choice(_TYPES)
                    member.linkname = random.choice(("/etc/passwd", "../out", member.name))
                elif change == 2:
                    member.pax_headers = {
                        random.choice(("size", "path", "GNU.sparse.map", "GNU.sparse.size", "x")):
                        random.choice(("-1", "99999999999", "", "1,2,3", "../x", "9" * 5000))
                    }  # fmt: skip
                elif change == 3:
                    new.addfile(member, file)  # a duplicate
                    file = old.extractfile(member)
                else:
                    member.size = random.choice((0, 1, 2 * member.size, 2**33))
                    head = member.tobuf(tarfile.GNU_FORMAT)
                    out.write(head)
                    continue
            new.addfile(member, file)
    return gzip.compress(out.getvalue())


def any_zip(data: bytes, random: Random) -> bytes:
    """Change the bytes of a `.zip`, or a member: its name, kind, method, flags or sizes."""
    if random.random() < 0.4:
        return any_bytes(data, random)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = random.choice(old.infolist())
        for info in old.infolist():
            one = zipfile.ZipInfo(info.filename)
            if info is chosen:
                change = random.randrange(4)
                if change == 0:
                    prefix = random.choice(("../", "/", "..\\", "C:\\", "a/../../", "\x1b[31m"))
                    one.filename = prefix + one.filename
                elif change == 1:
                    one.external_attr = random.choice((0o120777, 0o010644, 0o040755)) << 16
                elif change == 2:
                    one.compress_type = random.choice(
                        (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
                    )
                else:
                    new.writestr(zipfile.ZipInfo("a/" + one.filename), old.read(info))
            new.writestr(one, old.read(info))
    return out.getvalue()
