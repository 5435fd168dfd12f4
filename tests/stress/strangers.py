"""Untrusted files: runs, data, tables and settings, damaged in many ways.

Each input is a valid file with a mutation (`tests.stress.mutations`), in a folder of valid files,
and a command that reads it, in this process. The command may succeed, or refuse the file with a
message and the exit code of a user error. Anything else is a crash: a traceback or a warning, a
file written outside the folder, a program or a connection started, control characters sent to the
terminal, or more than `SECONDS`.

    python -m tests.stress.strangers --inputs 20000
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

# Import first: kgtool must be imported before torch.
from benchmarks import common
from tests.stress import mutations

# isort: split
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import kgtool
from kgtool import cli
from kgtool.config import parse_config
from kgtool.data.loaders.write import write_dataset
from kgtool.data.registry.entries import REGISTRY
from kgtool.distributed import process_group
from kgtool.errors import KGToolError
from kgtool.export import parquet  # noqa: F401  # commands import it at their first run
from kgtool.graph import partition
from kgtool.storage.checkpoint import save_tensors
from kgtool.storage.tables import load_table

SECONDS = 20.0
REFUSED, ACCEPTED = "refused", "accepted"


@dataclass(frozen=True)
class Kind:
    """A kind of file, and the command that reads it.

    Attributes:
        name: the name of the kind.
        file: the file that is changed, in the folder of `make_folder`.
        change: the mutator.
        command: the command that runs in that folder.
        processes: the number of processes; the command is that of the first.
    """

    name: str
    file: str
    change: mutations.Mutator
    command: str
    processes: int = 1


_TEXT, _JSON, _TENSORS = mutations.any_text, mutations.any_json, mutations.any_safetensors
_SIGNED = mutations.any_checkpoint
_RESUME = "train {0}/config.toml --out {0} --resume"
KINDS = (
    Kind("run: config.toml", "one/config.toml", mutations.any_toml, "evaluate one"),
    Kind("run: entities.tsv", "one/entities.tsv", _TEXT, "predict one e1 r0 ?"),
    Kind("run: relations.tsv", "one/relations.tsv", _TEXT, "predict one e1 r0 ?"),
    Kind("run: run.json", "one/run.json", _JSON, "evaluate one"),
    Kind("run: run.json, page", "all/run.json", _JSON, "report all"),
    Kind("run: best.safetensors", "one/best.safetensors", _TENSORS, "predict one e1 ? e2"),
    Kind("run: best, all paths", "all/best.safetensors", _TENSORS, "explain all e1 r0 e2"),
    Kind("run: last.safetensors", "part/last.safetensors", _TENSORS,
         _RESUME.format("part")),
    Kind("run: run.json, resumed", "part/run.json", _JSON,
         _RESUME.format("part")),
    Kind("run: probabilities", "one/probability.safetensors", _TENSORS, "predict one e1 r0 ?"),
    Kind("run: relation fit", "one/relations.safetensors", _TENSORS, "predict one e1 ? e2"),
    Kind("run: pair fit", "one/pairs.safetensors", _TENSORS, "predict one e1 ? e2"),
    Kind("run: owners", "spread/owners.safetensors", _TENSORS,
         _RESUME.format("spread"), 2),
    Kind("signed: owners", "spread/owners.safetensors", _SIGNED,
         _RESUME.format("spread"), 2),
    Kind("signed: last, spread", "spread/last.safetensors", _SIGNED,
         _RESUME.format("spread"), 2),
    Kind("signed: last", "part/last.safetensors", _SIGNED,
         _RESUME.format("part")),
    Kind("signed: last, finished", "all/last.safetensors", _SIGNED,
         _RESUME.format("all")),
    Kind("signed: best, resumed", "part/best.safetensors", _SIGNED,
         _RESUME.format("part")),
    Kind("signed: best", "one/best.safetensors", _SIGNED, "predict one e1 r0 ?"),
    Kind("signed: best, all paths", "all/best.safetensors", _SIGNED, "predict all e1 r0 ?"),
    Kind("signed: best, extended", "one/best.safetensors", _SIGNED,
         "extend one loose.tsv --out new"),
    Kind("signed: best, begun from", "one/best.safetensors", _SIGNED,
         "train tiny.toml --init-from one --out new"),
    Kind("signed: probabilities", "one/probability.safetensors", _SIGNED, "predict one e1 r0 ?"),
    Kind("signed: relation fit", "one/relations.safetensors", _SIGNED, "predict one e1 ? e2"),
    Kind("signed: pair fit", "one/pairs.safetensors", _SIGNED, "predict one e1 ? e2"),
    Kind("run: history.tsv", "all/history.tsv", _TEXT, "report all"),
    Kind("run: metrics.json", "all/metrics.test.json", _JSON, "report all"),
    Kind("run: breakdown.tsv", "all/breakdown.test.tsv", _TEXT, "report all"),
    Kind("run: ranks.tsv", "all/ranks.test.tsv", _TEXT, "report all"),
    Kind("run: calibration.tsv", "all/calibration.test.tsv", _TEXT, "report all"),
    Kind("data: TSV", "data/train.txt", _TEXT, "data inspect data"),
    Kind("data: trained on", "data/train.txt", _TEXT, "train tiny.toml --out new"),
    Kind("data: CSV", "csv/train.csv", _TEXT, "data inspect csv"),
    Kind("data: JSON lines", "jsonl/train.jsonl", mutations.any_json_lines, "data inspect jsonl"),
    Kind("data: Parquet", "parquet/train.parquet", mutations.any_table, "data inspect parquet"),
    Kind("data: N-Triples", "nt/train.nt", _TEXT, "data inspect nt"),
    Kind("data: Turtle", "ttl/train.ttl", _TEXT, "data inspect ttl"),
    Kind("data: gzip", "gz/train.txt.gz", mutations.packed("gz"), "data inspect gz"),
    Kind("data: bzip2", "bz2/train.txt.bz2", mutations.packed("bz2"), "data inspect bz2"),
    Kind("data: xz", "xz/train.txt.xz", mutations.packed("xz"), "data inspect xz"),
    Kind("data: zstd", "zst/train.txt.zst", mutations.packed("zst"), "data inspect zst"),
    Kind("data: zip", "data.zip", mutations.any_zip, "data convert data.zip --out converted"),
    Kind("data: tar.gz", "data.tar.gz", mutations.any_tar,
         "data convert data.tar.gz --out converted"),
    Kind("data: OpenKE", "openke/train2id.txt", _TEXT, "data inspect openke"),
    Kind("data: OpenKE labels", "openke/entity2id.txt", _TEXT, "data inspect openke"),
    Kind("data: LibKGE", "libkge/train.del", _TEXT, "data inspect libkge"),
    Kind("data: DGL-KE", "dglke/entities.dict", _TEXT, "data inspect dglke"),
    Kind("data: loose triples", "loose.tsv", _TEXT, "data split loose.tsv --out new"),
    Kind("data: more triples", "loose.tsv", _TEXT, "extend all loose.tsv --out new"),
    Kind("ranks: TSV", "ranks.tsv", _TEXT, "compare all ranks.tsv"),
    Kind("ranks: Parquet", "ranks.parquet", mutations.any_table, "evaluate --ranks ranks.parquet"),
    Kind("labels", "labels.tsv", _TEXT, "predict one e1 r0 ? --labels labels.tsv"),
    Kind("types", "types.tsv", _TEXT, "predict one e1 r0 ? --types types.tsv"),
    Kind("questions", "questions.tsv", _TEXT, "predict one --queries questions.tsv"),
    Kind("settings", "tiny.toml", mutations.any_toml,
         "train tiny.toml training.epochs=1 --data data --out new"),
    Kind("registry", "registry.toml", mutations.any_toml, "data list"),
)  # fmt: skip


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Change the working folder for the `with` block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def make_folder(folder: Path) -> None:
    """Write valid files of every kind."""
    data = common.synthetic(24, 3, 56, 8, seed=1)
    folder.mkdir()
    with inside(folder):
        write_dataset(data, Path("data"), {})
        shutil.make_archive("data", "zip", "data")
        shutil.make_archive("data", "gztar", "data")
        _write_forms(Path("data"))
        training = {"epochs": 1, "warmup_steps": 0, "precision": "float32"}
        common_ = {"seed": 7, "dim": 8, "data": "data", "training": training}
        one = parse_config(
            common_ | {"encoder": {}, "one_path": {"batch_size": 64, "walk_ratio": 0.5}}
        )
        paths = {"layers": 2, "mlp_dim": 4, "batch_size": 8, "max_targets": 2}
        all_ = parse_config(common_ | {"all_paths": paths})
        Path("tiny.toml").write_text(one.to_toml())
        for name, config in (("one", one), ("all", all_)):
            run = kgtool.train(config, kgtool.load_dataset("data"), name, progress=False)
            kgtool.evaluate(run)
            kgtool.predict(run, [("e1", "r0", "?"), ("e1", "?", "e2")])
        kgtool.train(one, kgtool.load_dataset("data"), "part", progress=False)
        sampling = {"batch_size": 64, "training": "negative_sampling", "num_negatives": 4}
        drawn = parse_config(
            common_
            | {"training": training | {"optimizer": "adagrad"}}
            | {"encoder": {"fanout": 3}, "one_path": sampling}
        )
        kgtool.train(drawn, kgtool.load_dataset("data"), "spread", progress=False)
        save_tensors(
            Path("spread/owners.safetensors"), {"owner": torch.arange(24) % 2}, {"processes": 2}
        )
        part = Path("part/config.toml")
        part.write_text(part.read_text().replace("epochs = 1", "epochs = 2"))
        Path("all/calibration.test.tsv").write_text(
            "probability\tobserved\tcount\tlow\thigh\n0.25\t0.3\t10\t0.1\t0.5\n"
        )
        ranks = load_table("all/ranks.test.tsv")
        shutil.copy("all/ranks.test.tsv", "ranks.tsv")
        pq.write_table(pa.Table.from_pandas(ranks), "ranks.parquet")
        triples = Path("data/train.txt").read_text()
        Path("loose.tsv").write_text(triples + "new\tr0\te1\n")
        Path("labels.tsv").write_text("".join(f"e{i}\tperson {i}\n" for i in range(24)))
        Path("types.tsv").write_text("".join(f"e{i}\tkind {i % 3}\n" for i in range(24)))
        Path("questions.tsv").write_text("e1\tr0\t?\n?\tr1\te2\ne1\t?\te3\ne1\tr0/^r1\t?\n")
        Path("registry.toml").write_text(
            '[mine]\naddress = "https://example.org/x.zip"\nsha256 = "' + "0" * 64 + '"\n'
            "size = 1\ntrain = 1\nvalid = 1\ntest = 1\nentities = 2\nrelations = 1\n"
        )


def _write_forms(data: Path) -> None:
    """Write the same triples in every format, each in a folder of the format's name."""
    for split in ("train", "valid", "test"):
        text = (data / f"{split}.txt").read_bytes()
        rows = [line.split("\t") for line in text.decode().splitlines()]
        table = pa.table(
            dict(zip(("head", "relation", "tail"), zip(*rows, strict=True), strict=True))
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        iris = [" ".join(f"<http://x/{label}>" for label in row) + " .\n" for row in rows]
        prefix = "@prefix x: <http://x/> .\n"
        turtle = prefix + "".join(f"x:{h} x:{r} x:{t} , [ x:{r} x:{t} ] .\n" for h, r, t in rows)
        ids = [[label[1:] for label in row] for row in rows]
        forms = {
            f"csv/{split}.csv": text.replace(b"\t", b",") + b'"e,1","r0","e""2"\n',
            f"jsonl/{split}.jsonl": "".join(
                f'{{"head": "{h}", "relation": "{r}", "tail": "{t}"}}\n' for h, r, t in rows
            ).encode(),
            f"parquet/{split}.parquet": buffer.getvalue(),
            f"nt/{split}.nt": "".join(iris).encode(),
            f"ttl/{split}.ttl": turtle.encode(),
            f"gz/{split}.txt.gz": gzip.compress(text),
            f"bz2/{split}.txt.bz2": bz2.compress(text),
            f"xz/{split}.txt.xz": lzma.compress(text),
            f"zst/{split}.txt.zst": mutations.zstd(text),
            f"openke/{split}2id.txt": f"{len(ids)}\n".encode()
            + "".join(f"{h} {t} {r}\n" for h, r, t in ids).encode(),
            f"libkge/{split}.del": "".join(f"{h}\t{r}\t{t}\n" for h, r, t in ids).encode(),
            f"dglke/{split}.tsv": "".join(f"{h}\t{r}\t{t}\n" for h, r, t in ids).encode(),
        }
        for name, content in forms.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_bytes(content)
    for kind, many in (("entity", 24), ("relation", 3)):
        plural = "entities" if kind == "entity" else "relations"
        named = [(i, f"{kind} {i}") for i in range(many)]
        Path(f"openke/{kind}2id.txt").write_text(
            f"{many}\n" + "".join(f"{label}\t{i}\n" for i, label in named)
        )
        Path(f"libkge/{kind}_ids.del").write_text("".join(f"{i}\t{x}\n" for i, x in named))
        Path(f"dglke/{plural}.dict").write_text("".join(f"{i}\t{x}\n" for i, x in named))


# Audit events that are forbidden while a file is read. For opening to write, the path decides.
_FORBIDDEN = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pickle.find_class",
              "socket.connect", "subprocess.Popen")  # fmt: skip
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.chmod")
_watching: list[
    tuple[str, list[str]]
] = []  # the folder that may be written to; the forbidden actions
_hooked = False


def _numba_reads() -> bool:
    """Whether numba is reading its cache of kernels: pickled files next to the source."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith("numba.core.caching"):
            return True
    return False


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    folder, done = _watching[-1]
    if event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1], args[2]
        writes = (mode and set("wax+") & set(mode)) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        paths = [args[0]] if writes else []
    elif event in _CHANGES:
        paths = [path for path in args if isinstance(path, (str, bytes))]
    elif event in _FORBIDDEN:
        if event != "pickle.find_class" or not _numba_reads():
            done.append(f"{event} {args!r:.80}")
        return
    else:
        return
    for path in map(os.fsdecode, paths):
        real = os.path.realpath(path)
        own = f"{real}{os.sep}".startswith(folder + os.sep) or real == os.devnull
        # Python and numba store compiled code in __pycache__.
        if not own and "__pycache__" not in real:
            done.append(f"wrote {path}")


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Record forbidden actions of this process in the `with` block."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_hear)
        _hooked = True
    _watching.append((os.path.realpath(folder), []))
    try:
        yield _watching[-1][1]
    finally:
        _watching.pop()


# Control characters except line ends, and characters that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def typed(command: Sequence[str], folder: Path, watch: bool = True) -> str:
    """Run a command line; returns `REFUSED`, `ACCEPTED`, or a description of a crash.

    Args:
        command: the arguments of `kgtool`.
        folder: the working folder, and the only folder that the command may write to.
        watch: whether forbidden actions and exceeding the time limit count as crashes.
    """
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["kgtool", *command]
    code: object = 0

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, late)
    try:
        with (
            inside(folder), watched(folder) as done, warnings.catch_warnings(),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            warnings.simplefilter("error")
            signal.setitimer(signal.ITIMER_REAL, SECONDS if watch else 0)
            try:
                cli.main()
            except SystemExit as exit_:
                code = exit_.code or 0
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error))
    finally:
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
    said = out.getvalue() + err.getvalue()
    if done and watch:
        return "; ".join(done)
    if control := _CONTROL.search(said):
        place = control.start()
        return (
            f"sent {control.group()!r} to the terminal: {said[max(0, place - 80) : place + 40]!r}"
        )
    if code == 0:
        return ACCEPTED
    if code in (1, 2) and err.getvalue().startswith("kgtool: ") and "." in err.getvalue():
        return REFUSED
    return f"exit code {code}: {err.getvalue()}"


@dataclass(frozen=True)
class Sandbox:
    """A folder of valid files, and a copy to damage.

    Attributes:
        sound: the folder that `make_folder` wrote.
        copy: the copy; commands run there.
    """

    sound: Path
    copy: Path

    @classmethod
    def make(cls, place: Path) -> Sandbox:
        """Make the sandbox in an empty folder."""
        out = cls(place / "sound", place / "copy")
        make_folder(out.sound)
        shutil.copytree(out.sound, out.copy)
        # Run all commands once: imports, compilation and caches must not count against the files.
        for kind in KINDS:
            end = out.feed(kind, out.sound_bytes(kind), watch=False)
            assert end == ACCEPTED, f"{kind.name}: {end}"
        return out

    def restore(self) -> None:
        """Restore the copy from the valid files."""
        for path in sorted(self.copy.rglob("*"), reverse=True):
            own = self.sound / path.relative_to(self.copy)
            if path.is_symlink() or (not path.is_dir() and not own.exists()):
                path.unlink()
            elif path.is_dir() and not own.exists():
                path.rmdir()
        for path in self.sound.rglob("*"):
            twin = self.copy / path.relative_to(self.sound)
            if path.is_dir():
                twin.mkdir(exist_ok=True)
            elif not twin.exists() or _changed(path, twin):
                shutil.copy2(path, twin)

    def feed(self, kind: Kind, content: bytes, watch: bool = True) -> str:
        """Damage a file of a kind and run its command; returns the outcome, see `typed`."""
        (self.found(kind, self.copy)).write_bytes(content)
        try:
            with (
                environment(REGISTRY, str(self.copy / "registry.toml"), kind.name == "registry"),
                in_a_team(kind.processes),
            ):
                return typed(kind.command.split(), self.copy, watch=watch)
        finally:
            self.restore()

    def found(self, kind: Kind, folder: Path) -> Path:
        """The path of a kind's file; the names of a run's fits contain a digest of its weights."""
        path = folder / kind.file
        if path.exists():
            return path
        return next(path.parent.glob(f"{path.stem}.*{path.suffix}"))

    def sound_bytes(self, kind: Kind) -> bytes:
        """The bytes of a kind's valid file."""
        return self.found(kind, self.sound).read_bytes()


def _changed(path: Path, twin: Path) -> bool:
    one, other = path.stat(), twin.stat()
    return (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns)


@contextlib.contextmanager
def environment(name: str, value: str, here: bool) -> Iterator[None]:
    """Set an environment variable in the `with` block, if `here`."""
    before = os.environ.get(name)
    if here:
        os.environ[name] = value
    try:
        yield
    finally:
        if here:
            os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def in_a_team(size: int) -> Iterator[None]:
    """In the `with` block, be the first process of a group of `size` processes.

    The other processes contribute nothing to sums and broadcasts. This is enough to resume a
    finished run. A request for their rows fails as if they had ended.
    """

    def all_to_all(told: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if size > 1:
            raise KGToolError("another process has ended.")
        return list(told)

    def in_turn(triples: torch.Tensor, num_entities: int, parts: int) -> torch.Tensor:
        """Replaces METIS, because DGL lets METIS print and leave a file open."""
        return torch.arange(num_entities) % parts

    with (
        mock.patch.object(partition, "metis", in_turn),
        mock.patch.multiple(
            process_group, world_size=lambda: size, broadcast=lambda tensor: tensor,
            all_reduce=lambda tensors: None, all_to_all=all_to_all,
        ),
    ):  # fmt: skip
        yield


@dataclass
class Tally:
    """The results of a kind: the number of inputs by outcome, the slowest, and the crashes."""

    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    crashes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """The total number of inputs."""
        return self.refused + self.accepted + len(self.crashes)


def try_kind(sandbox: Sandbox, kind: Kind, inputs: int, seed: int) -> Tally:
    """Feed a number of damaged files of a kind."""
    tally = Tally()
    sound = sandbox.sound_bytes(kind)
    for number in range(inputs):
        content = kind.change(sound, random.Random(f"{seed} {kind.name} {number}"))
        start = time.perf_counter()
        end = sandbox.feed(kind, content)
        tally.slowest = max(tally.slowest, time.perf_counter() - start)
        if end == REFUSED:
            tally.refused += 1
        elif end == ACCEPTED:
            tally.accepted += 1
        else:
            tally.crashes.append((number, end))
    return tally


def try_all(kinds: Sequence[Kind], inputs: int, seed: int) -> Iterator[tuple[Kind, Tally]]:
    """Feed a number of damaged files, equally many of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox.make(Path(folder))
        for number, kind in enumerate(kinds):
            own = inputs // len(kinds) + (number < inputs % len(kinds))
            yield kind, try_kind(sandbox, kind, own, seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, feed, and print the table; returns 1 if a command crashed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--inputs",
        type=common.positive,
        default=20_000,
        metavar="N",
        help="total inputs (%(default)s)",
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="only kinds with this text in their name"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="%(default)s")
    args = parser.parse_args(argv)
    kinds = [kind for kind in KINDS if args.only in kind.name]
    if not kinds:
        common.fail(f"no kind is named {args.only!r}.")
    rows, crashes = [], []
    for kind, tally in try_all(kinds, args.inputs, args.seed):
        crashes += [(kind, *crash) for crash in tally.crashes]
        counts = (tally.inputs, tally.refused, tally.accepted, len(tally.crashes))
        rows.append((kind.name, *(f"{n:,}" for n in counts), f"{tally.slowest:.2f} s"))
        print(rows[-1], file=sys.stderr, flush=True)
    for kind, number, end in crashes[:1000]:
        print(f"{kind.name}, input {number}: {end}", file=sys.stderr)
    columns = ("kind of file", "inputs", "refused", "accepted", "crashed", "slowest")
    common.print_table(f"{args.inputs:,} untrusted files", columns, rows)
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
