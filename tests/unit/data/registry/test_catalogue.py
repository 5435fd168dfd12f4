"""The catalogue: its entries against real data, and the form of each source on loopback."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.loaders import load_dataset, load_negatives
from kgtool.data.registry.cache import is_fetched, record_file, resolve
from kgtool.data.registry.entries import Entry, entries
from kgtool.data.registry.fetching import fetch_entry
from kgtool.errors import DataError, FetchError, KGToolWarning
from tests.support.runs import ring

ENTRIES = entries()
COUNTS = ("train", "valid", "test", "entities", "relations")
GRAIL = [f"{graph}_v{number}" for graph in ("fb237", "WN18RR", "nell") for number in range(1, 5)]
INGRAM = [
    *(f"{graph}-{share}" for graph in ("FB", "WK") for share in (25, 50, 75, 100)),
    *(f"NL-{share}" for share in (0, 25, 50, 75, 100)),
]
PAIRS = [*GRAIL, "ILPC-small", "ILPC-large", *INGRAM]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no user registry, and no proxy."""
    monkeypatch.setenv("KGTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KGTOOL_REGISTRY", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


class Host:
    """A server on loopback with files by path; it counts what it is asked for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                body = host.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def host() -> Iterator[Callable[[Mapping[str, bytes]], Host]]:
    hosts: list[Host] = []

    def start(files: Mapping[str, bytes]) -> Host:
        hosts.append(Host(files))
        return hosts[-1]

    yield start
    for one in hosts:
        one.server.shutdown()
        one.server.server_close()


def lines(dataset: KGDataset, split: str) -> bytes:
    entities, relations = dataset.vocabulary.entities, dataset.vocabulary.relations
    rows = dataset.split(split).tolist()
    return "".join(f"{entities[h]}\t{relations[r]}\t{entities[t]}\n" for h, r, t in rows).encode()


def tarred(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def saved(data: dict[str, Any], legacy: bool) -> bytes:
    """As torch.save writes it; the legacy form as PyTorch before 1.6 and NumPy 1 wrote it."""
    written = io.BytesIO()
    torch.save(data, written, _use_new_zipfile_serialization=not legacy)
    found = written.getvalue()
    return found.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if legacy else found


def csv_gz(header: str, rows: list[str]) -> bytes:
    numbered = "".join(f"{i},{row}\n" for i, row in enumerate(rows))
    return gzip.compress(f"{header}\n{numbered}".encode())


def ogb(typed: bool, legacy: bool, damage: Callable[[dict[str, Any]], Any] = lambda d: d) -> bytes:
    """An archive as OGB's: ring(), with even entities of type drug and odd ones of type disease."""
    data, name = ring(), "biokg" if typed else "wikikg-v2"
    split = "random" if typed else "time"
    files: dict[str, bytes] = {f"{name}/RELEASE_v1.txt": b"", f"{name}/raw/edge.csv.gz": b"no"}
    names = list(data.vocabulary.entities)
    if typed:
        for kind, own in (("drug", names[0::2]), ("disease", names[1::2])):
            files[f"{name}/mapping/{kind}_entidx2name.csv.gz"] = csv_gz("ent idx,ent name", own)
        relations = list(data.vocabulary.relations)
        files[f"{name}/mapping/relidx2relname.csv.gz"] = csv_gz("rel idx,rel name", relations)
    else:
        files[f"{name}/mapping/nodeidx2entityid.csv.gz"] = csv_gz("node idx,entity id", names)
        relations = list(data.vocabulary.relations)
        files[f"{name}/mapping/reltype2relid.csv.gz"] = csv_gz("reltype,rel id", relations)
    for part in SPLITS:
        head, relation, tail = data.split(part).numpy().T
        arrays: dict[str, Any] = {
            "head": head // 2 if typed else head,
            "relation": relation.copy(),
            "tail": tail // 2 if typed else tail,
        }
        if typed:
            arrays |= {
                f"{side}_type": ["disease" if entity % 2 else "drug" for entity in ends]
                for side, ends in (("head", head), ("tail", tail))
            }
        if part != "train":
            arrays["head_neg"] = np.zeros((len(head), 500), np.int64)
        files[f"{name}/split/{split}/{part}.pt"] = saved(damage(arrays), legacy)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return packed.getvalue()


def hetionet() -> dict[str, bytes]:
    data = ring()
    edges = b"source\tmetaedge\ttarget\n" + b"".join(lines(data, split) for split in SPLITS)
    nodes = "".join(f"{e}\tname of {e}\tGene\n" for e in (*data.vocabulary.entities, "alone"))
    return {
        "hetionet-v1.0-edges.sif.gz": gzip.compress(edges),
        "hetionet-v1.0-nodes.tsv": f"id\tname\tkind\n{nodes}".encode(),
    }


def made_up(entry: Entry) -> dict[str, bytes]:
    """What the source of an entry answers, by the part of the address below its host."""
    data, path = ring(), urlsplit(entry.address).path
    if entry.layout == "ogb":
        return {path: ogb(typed="biokg" in path, legacy="biokg" in path)}
    if entry.layout == "hetionet":
        return {path + name: content for name, content in hetionet().items()}
    if not entry.files:
        if path.endswith(".txt"):
            return {path: b"".join(lines(data, split) for split in SPLITS)}
        return {path: tarred({f"{split}.txt": lines(data, split) for split in SPLITS})}
    rows = lines(data, "train").splitlines(keepends=True)
    contents = {
        "train.txt": lines(data, "train"), "valid.txt": lines(data, "valid"),
        "test.txt": lines(data, "test"), "train/facts.txt": b"".join(rows[:30]),
        "train/rest.txt": b"".join(rows[30:]), "valid_negatives.txt": rows[0],
        "test_negatives.txt": rows[1],
    }  # fmt: skip
    return {
        urlsplit(source.address).path: contents[source.name]
        for source in entry.sources(entry.address)
    }


def unpinned(entry: Entry) -> Entry:
    """The entry without its checksums and size, for data that are made up."""
    return entry.model_copy(update={"sha256": "", "size": None})


def triples_of(data: KGDataset) -> set[tuple[str, str, str]]:
    entities, relations = data.vocabulary.entities, data.vocabulary.relations
    every = torch.cat([data.split(split) for split in SPLITS]).tolist()
    return {(entities[h], relations[r], entities[t]) for h, r, t in every}


def test_the_entries_are_whole():
    assert len(ENTRIES) == 71
    for name in ("CoDEx-S", "CoDEx-M", "CoDEx-L", "NELL-995", "YAGO3-10", "Family", "Hetionet",
                 "nations", "ogbl-biokg", "ogbl-wikikg2", "Countries_S1", *PAIRS):  # fmt: skip
        assert name in ENTRIES
    for name, entry in ENTRIES.items():
        assert entry.name == name
        assert "" not in (entry.about, entry.licence, entry.reference)
        assert entry.address.startswith("https://")
        assert entry.link.startswith("https://")
        assert entry.total is not None
        assert entry.entities is not None
    assert len({(e.address, *e.files) for e in ENTRIES.values()}) == len(ENTRIES)
    assert len({name.casefold() for name in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("name", PAIRS)
def test_an_inductive_graph_lies_next_to_the_one_to_train_on(name):
    train, inductive = ENTRIES[name], ENTRIES[f"{name}_ind"]
    assert f"{name}_ind" in train.about or train.about
    assert name in inductive.about
    assert (train.licence, train.reference) == (inductive.licence, inductive.reference)
    if name in GRAIL:
        assert inductive.address == train.address.replace(name, f"{name}_ind")


RAW = "https://raw.githubusercontent.com"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ILPC-small", f"{RAW}/pykeen/ilpc2022/master/data/small/train.txt"),
        ("ILPC-small_ind", f"{RAW}/pykeen/ilpc2022/master/data/small/inference.txt"),
        ("ILPC-large_ind", f"{RAW}/pykeen/ilpc2022/master/data/large/inference.txt"),
        ("FB-25", f"{RAW}/bdi-lab/InGram/main/data/FB-25/train.txt"),
        ("NL-100_ind", f"{RAW}/bdi-lab/InGram/main/data/NL-100/msg.txt"),
        ("Family", f"{RAW}/fanyangxyz/Neural-LP/master/datasets/family/facts.txt"),
        ("nell_v4_ind", f"{RAW}/kkteru/grail/master/data/nell_v4_ind/train.txt"),
    ],
)
def test_train_is_the_graph_to_pass_messages_on(name, wanted):
    """The first source, from which the train split comes."""
    first = ENTRIES[name].sources(ENTRIES[name].address)[0]
    assert first.address == wanted
    assert first.name.startswith("train")


@pytest.mark.parametrize("name", INGRAM)
def test_the_licence_of_ingram_is_shown(name):
    assert ENTRIES[name].licence.startswith("CC BY-NC-SA")


@pytest.mark.parametrize("name", ["fb237_v1", "fb237_v2", "WN18RR_v1", "WN18RR_v2", "nell_v1"])
@pytest.mark.parametrize("ending", ["", "_ind"])
def test_counts_of_grail_are_those_of_the_real_graphs(
    name: str, ending: str, benchmark_archive: Callable[[str], Path], tmp_path: Path
) -> None:
    archive = benchmark_archive(f"inductive-{name}.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    data, entry = load_dataset(tmp_path / (name + ending)), ENTRIES[name + ending]
    counts = [*(len(data.split(split)) for split in SPLITS), data.num_entities, data.num_relations]
    assert [getattr(entry, key) for key in COUNTS] == counts


def test_counts_and_checksums_of_codex_are_those_of_the_real_files(
    benchmark_archive: Callable[[str], Path], tmp_path: Path
) -> None:
    with tarfile.open(benchmark_archive("codex-s.tar.gz")) as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / "codex-s"
    entry, data = ENTRIES["CoDEx-S"], load_dataset(folder)
    counts = [*(len(data.split(split)) for split in SPLITS), data.num_entities, data.num_relations]
    assert [getattr(entry, key) for key in COUNTS] == counts
    files = [(folder / source.name).read_bytes() for source in entry.sources(entry.address)]
    assert [hashlib.sha256(file).hexdigest() for file in files] == entry.sha256
    assert sum(map(len, files)) == entry.size


@pytest.mark.parametrize("name", ENTRIES)
def test_each_source_ends_as_a_data_set_that_loads(name, host, cache, monkeypatch):
    """Data of the form of each source; the paths below the host are those of the real address."""
    entry = unpinned(ENTRIES[name])
    monkeypatch.setattr("kgtool.data.registry.cache.entries", lambda: {name: entry})
    server = host(made_up(entry))
    with pytest.warns(KGToolWarning, match=rf"^{re.escape(name)} has .* in place of .*remove "):
        path = fetch_entry(entry, server.address + urlsplit(entry.address).path)
    wanted = [urlsplit(source.address).path for source in entry.sources(entry.address)]
    assert server.asked == wanted
    assert path == resolve(name) == cache / entry.file_name
    assert is_fetched(entry)
    data = load_dataset(name)
    assert data.name == name
    assert all(len(data.split(split)) for split in SPLITS)
    if name != "ogbl-biokg":
        assert triples_of(data) == triples_of(ring())
        assert data.vocabulary == ring().vocabulary
    if entry.files and "valid_negatives.txt" in entry.files:
        assert load_negatives(name, data.vocabulary).keys() == {"valid", "test"}
    assert fetch_entry(entry) == path, "it is there: nothing is fetched again"
    assert sorted(p.name for p in cache.iterdir()) == sorted([entry.file_name, f"{name}.json"])


def test_types_and_labels_of_biokg_are_kept(host, tmp_path):
    entry = unpinned(ENTRIES["ogbl-biokg"])
    data = _fetched(entry, host(made_up(entry)))
    original = ring()
    kinds = {e: "disease" if i % 2 else "drug" for i, e in enumerate(original.vocabulary.entities)}
    wanted = {
        (f"{kinds[head]}:{head}", relation, f"{kinds[tail]}:{tail}")
        for head, relation, tail in triples_of(original)
    }
    assert triples_of(data) == wanted
    assert data.types == {f"{kind}:{entity}": (kind,) for entity, kind in kinds.items()}
    for split in SPLITS:
        assert len(data.split(split)) == len(original.split(split))


def test_types_and_names_of_hetionet_are_kept(host, cache):
    entry = unpinned(ENTRIES["Hetionet"])
    data = _fetched(entry, host(made_up(entry)))
    assert data.types == dict.fromkeys(ring().vocabulary.entities, ("Gene",))
    assert b"name of e003" in (cache / "Hetionet" / "nodes.tsv").read_bytes()
    record_file(entry).unlink()
    again = _fetched(entry, host(made_up(entry)))
    assert again.fingerprint == data.fingerprint, "the split is the same each time"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("typed", [False, True])
def test_both_forms_of_torchs_files_are_read(host, typed, legacy):
    entry = unpinned(ENTRIES["ogbl-biokg" if typed else "ogbl-wikikg2"])
    path = urlsplit(entry.address).path
    data = _fetched(entry, host({path: ogb(typed, legacy)}))
    assert [len(data.split(split)) for split in SPLITS] == [56, 8, 8]


class Evil:
    """A pickle of this writes a file when it is loaded by pickle."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda d, place: d | {"x": Evil(place)}, "it names posix.mkdir"),
        (lambda d, place: d | {"head": torch.arange(3)}, "it names torch"),
        (lambda d, place: d | {"head": d["head"].astype(float)}, "other than integers"),
        (lambda d, place: d | {"head": d["head"] - 99}, "negative"),
        (lambda d, place: d | {"head": d["head"] + 99}, "Index"),
        (lambda d, place: {"tail": 1}, "not an archive of the Open Graph Benchmark"),
        (lambda d, place: [1], "does not hold a dictionary"),
    ],
)
def test_an_archive_of_ogb_that_is_odd_is_refused_and_runs_nothing(
    host, cache, tmp_path, legacy, damage, problem
):
    entry = unpinned(ENTRIES["ogbl-wikikg2"])
    content = ogb(False, legacy, lambda d: damage(d, tmp_path / "made"))
    server = host({urlsplit(entry.address).path: content})
    with pytest.raises(FetchError, match="what came is not a data set: ") as caught:
        fetch_entry(entry, server.address + urlsplit(entry.address).path)
    assert problem in str(caught.value)
    assert not (tmp_path / "made").exists()
    assert list(cache.iterdir()) == []


def test_what_is_no_archive_of_ogb_is_refused(host, cache):
    entry = unpinned(ENTRIES["ogbl-biokg"])
    path = urlsplit(entry.address).path
    for content in (b"<html>", made_up(entry)[path][:-200], _zip({"a.txt": b"x"})):
        server = host({path: content})
        with pytest.raises(FetchError, match="not an archive of the Open Graph Benchmark"):
            fetch_entry(entry, server.address + path)
        assert list(cache.iterdir()) == []


def test_a_page_in_place_of_the_triples_is_refused(host, cache):
    entry = ENTRIES["fb237_v1"]
    path = urlsplit(entry.address).path
    server = host({path + f"{split}.txt": b"<!DOCTYPE html>\n<p>404</p>\n" for split in SPLITS})
    with pytest.raises(FetchError, match=r"what came is not a data set: fb237_v1/train.txt"):
        fetch_entry(entry, server.address + path)
    assert list(cache.iterdir()) == []


def test_a_missing_file_leaves_nothing(host, cache):
    entry = ENTRIES["fb237_v1"]
    files = made_up(entry)
    del files[urlsplit(entry.address).path + "test.txt"]
    server = host(files)
    with pytest.raises(FetchError, match=r"fb237_v1/test\.txt: the server answers 404"):
        fetch_entry(entry, server.address + urlsplit(entry.address).path)
    assert list(cache.iterdir()) == []


def test_a_known_checksum_of_one_of_several_files_is_checked(host, cache):
    entry = ENTRIES["CoDEx-S"]
    server = host(made_up(entry))
    with pytest.raises(FetchError, match=r"train\.txt: the SHA-256 is .*, not 64f93b7f314f"):
        fetch_entry(entry, server.address + urlsplit(entry.address).path)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["fb237_v1", "ILPC-small", "YAGO3-10", "ogbl-wikikg2"])
def test_the_first_fetch_pins_what_came(name, host, cache):
    entry = ENTRIES[name].model_copy(update={"size": None})
    files = made_up(entry)
    server = host(files)
    address = server.address + urlsplit(entry.address).path
    _fetched(entry, server)
    record = json.loads(record_file(entry).read_text())
    sums = [hashlib.sha256(content).hexdigest() for content in files.values()]
    assert list(record["sources"].values()) == sums
    place = cache / entry.file_name
    damaged = place / "train.txt" if place.is_dir() else place
    damaged.write_bytes(b"a\tr\tb\n")
    assert not is_fetched(entry)
    for path, content in server.files.items():
        server.files[path] = content + b" "
    with pytest.raises(FetchError, match="as the first fetch got it") as caught:
        fetch_entry(entry, address)
    assert str(record_file(entry)) in str(caught.value)
    assert damaged.read_bytes() == b"a\tr\tb\n", "what was there stays until all is whole"
    server.files = files
    _fetched(entry, server)
    assert is_fetched(entry)
    record_file(entry).write_text("{")
    assert not is_fetched(entry)


@pytest.mark.parametrize("thorough", [True, False])
def test_a_damaged_file_of_a_folder_is_noticed(host, cache, thorough, monkeypatch):
    entry = ENTRIES["fb237_v1"]
    monkeypatch.setattr("kgtool.data.registry.cache.entries", lambda: {entry.name: entry})
    _fetched(entry, host(made_up(entry)))
    file = cache / "fb237_v1" / "valid.txt"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    assert is_fetched(entry, thorough=False), "the size is the same"
    assert not is_fetched(entry)
    with pytest.raises(DataError, match=r"fb237_v1: .* is damaged .*kgtool data fetch fb237_v1"):
        resolve("fb237_v1")
    file.unlink()
    assert not is_fetched(entry, thorough)


def test_counts_that_fit_give_no_warning(host):
    data = ring()
    counts = {split: len(data.split(split)) for split in SPLITS}
    entry = ENTRIES["fb237_v1"].model_copy(
        update=counts | {"entities": data.num_entities, "relations": None}
    )
    server = host(made_up(entry))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch_entry(entry, server.address + urlsplit(entry.address).path)


def _zip(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _fetched(entry: Entry, server: Host) -> KGDataset:
    """The data set, fetched from a server; its counts are not the entry's."""
    with pytest.warns(KGToolWarning, match="in place of"):
        path = fetch_entry(entry, server.address + urlsplit(entry.address).path)
    return load_dataset(path)
