"""The registry: its entries, a user's entries, and names in place of paths."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

import kgtool
from kgtool.api.data import data_sets, fetch
from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import load_dataset, load_negatives
from kgtool.data.registry.cache import cache_folder, cached_file, is_fetched, resolve
from kgtool.data.registry.entries import (
    BUNDLED,
    Entry,
    check_address,
    entries,
    find_entry,
    nearest_name,
)
from kgtool.errors import ConfigError, DataError
from tests.support.runs import ring, write_folder

NAMES = ["FB15k-237", "WN18RR", "umls", "kinship", "nations"]  # those of ConvE with a checksum
ALL = list(entries())
OWN = f"""
[my-graph]
address = "https://example.org/files/my-graph.zip?download=1"
sha256 = "{"0" * 64}"
size = 100
train = 10
valid = 1
test = 1
entities = 5
relations = 2
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no user registry, and an empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("KGTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KGTOOL_REGISTRY", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a user registry, and sets its path."""

    def write(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_text(text)
        monkeypatch.setenv("KGTOOL_REGISTRY", str(path))
        return path

    return write


@pytest.fixture
def packed(own: Callable[[str], Path], tmp_path: Path, cache: Path) -> Entry:
    """A user's entry, `ring`, with its archive in the cache."""
    folder = write_folder(ring(), tmp_path / "packed" / "ring")
    cache.mkdir()
    archive = Path(shutil.make_archive(str(cache / "ring"), "gztar", folder))
    text = OWN.replace("my-graph.zip", "ring.tar.gz").replace("my-graph", "ring")
    text = text.replace("0" * 64, hashlib.sha256(archive.read_bytes()).hexdigest())
    own(text.replace("size = 100", f"size = {archive.stat().st_size}"))
    return entries()["ring"]


@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_entries_are_those_of_the_archives(
    name: str, benchmark_archive: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entries()[name]
    archive = benchmark_archive(entry.file_name)
    data = archive.read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)
    monkeypatch.setenv("KGTOOL_CACHE", str(archive.parent))  # where it counts as fetched
    dataset = load_dataset(name)
    assert (dataset.name, dataset.path) == (name, archive)
    counts = [len(dataset.split(split)) for split in SPLITS]
    assert [entry.train, entry.valid, entry.test] == counts
    assert (entry.entities, entry.relations) == (dataset.num_entities, dataset.num_relations)


def test_a_user_adds_entries(own):
    own(OWN)
    assert list(entries()) == [*ALL, "my-graph"]
    entry = find_entry("my-graph")
    assert entry.file_name == "my-graph.zip"
    assert entry.licence == ""
    table = data_sets()
    assert table["name"].tolist() == [*ALL, "my-graph"]
    row = table.set_index("name").loc["FB15k-237"]
    assert row[["train", "valid", "test"]].tolist() == [272_115, 17_535, 20_466]
    assert data_sets("MY-g")["name"].tolist() == ["my-graph"]
    assert not table["fetched"].any()


def test_the_form_of_the_bundled_file_is_that_of_a_users(own):
    for path in sorted(BUNDLED.glob("*.toml")):
        text = path.read_text()
        names = re.findall(r"^\[(.*)\]$", text, re.MULTILINE)
        own(re.sub(r"^\[", "[my-", text, flags=re.MULTILINE))
        mine = [entry for name, entry in entries().items() if name.startswith("my-")]
        assert [entry.name for entry in mine] == [f"my-{name}" for name in names]
        for entry in mine:
            theirs = entries()[entry.name.removeprefix("my-")]
            assert entry.model_dump(exclude={"name"}) == theirs.model_dump(exclude={"name"})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("address =", "licence ="), "the key 'address' is missing (https, to an archive, "),
        (("size = 100", "files = ['a.txt']"), "the address of several files must end in /"),
        (("size = 100", "files = ['../a.txt']"), "files = ['../a.txt']: '../a.txt' is not NAME"),
        (("size = 100", "files = ['/a.txt']"), "'/a.txt' is not NAME or NAME=PATH"),
        (("size = 100", "layout = 'rdf'"), "layout = 'rdf': Input should be"),
        (("size = 100", "size = 0"), "size = 0: Input should be greater than 0"),
        (("size = 100", "size = '100'"), "size = '100': Input should be a valid integer"),
        (("size = 100", "bytes = 100"), "unknown key 'bytes'; the keys are about, address, "),
        (("00", "0G"), "sha256 = '0G"),
        (("00", "0"), "sha256 = '0000"),
        (("https:", "http:"), "is not an https address"),
        (("https:", "file:"), "is not an https address"),
        (("https://example.org", "https://"), "is not an https address"),
        (("https://example.org", "https://[::1"), "address = 'https://[::1"),
        ((".zip", ".rar"), "the address must end in .zip, .tar.gz, .tgz, or .txt"),
        (("[my-graph]", "['my graph']"), "a name may have letters, digits"),
        (("[my-graph]", "['../up']"), "a name may have letters, digits"),
        (("[my-graph]", "['']"), "a name may have letters, digits"),
        (("[my-graph]", ""), "address is outside of an entry"),
        (("[my-graph]", "[WN18RR]"), "the name WN18RR is already used by WN18RR"),
        (("[my-graph]", "[UMLS]"), "the name UMLS is already used by umls"),
        (("[my-graph]", "[my-graph"), "not TOML"),
        (("[my-graph]", "[a]\n[a]"), "not TOML"),
    ],
)
def test_a_wrong_registry_is_told_by_file_and_key(own, change, problem):
    old, new = change
    path = own(OWN.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        entries()
    assert str(caught.value).startswith(str(path))
    assert problem in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_registry_that_cannot_be_read_is_told(own, tmp_path, monkeypatch):
    own("").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"own\.toml: not TOML in UTF-8"):
        entries()
    for place in (tmp_path / "gone.toml", tmp_path):
        monkeypatch.setenv("KGTOOL_REGISTRY", str(place))
        with pytest.raises(ConfigError, match=r"cannot read the registry .*check KGTOOL_REGISTRY"):
            entries()
    monkeypatch.setenv("KGTOOL_REGISTRY", "")
    assert list(entries()) == ALL


@pytest.mark.parametrize(
    ("name", "near"),
    [("fb15k237", "FB15k-237"), ("UMLS", "umls"), ("WN18", "WN18RR"), ("umsl", "umls")],
)
def test_an_unknown_name_gives_the_nearest(name, near):
    assert nearest_name(name) == near
    with pytest.raises(DataError) as caught:
        fetch(name)
    assert str(caught.value) == (
        f"unknown data set '{name}'. Remedy: did you mean {near}? kgtool data list shows all names."
    )
    assert caught.value.exit_code == 2


def test_a_name_like_no_other_gives_none():
    with pytest.raises(
        DataError, match=r"unknown data set '../\[x\]'. Remedy: kgtool data list shows"
    ):
        find_entry("../[x]")


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("https://example.org/kg.zip", True),
        ("http://127.0.0.1:80/kg.zip", True),
        ("http://localhost/kg.zip", True),
        ("http://[::1]:80/kg.zip", True),
        ("http://example.org/kg.zip", False),
        ("http://127.0.0.1@example.org/kg.zip", False),
        ("http://localhost.example.org/kg.zip", False),
        ("//example.org/kg.zip", False),
    ],
)
def test_addresses_are_https_or_of_this_machine(address, fine):
    if fine:
        assert check_address(address) == address
        return
    with pytest.raises(ValueError, match="is not an https address"):
        check_address(address)


def test_the_cache_is_named_or_the_platforms(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("KGTOOL_CACHE", "relative")
    assert cache_folder() == tmp_path / "work" / "relative"
    monkeypatch.setenv("KGTOOL_CACHE", "~/kg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / "kg"
    monkeypatch.setenv("KGTOOL_CACHE", "")
    assert cache_folder() == Path(platformdirs.user_cache_dir("kgtool", appauthor=False))
    monkeypatch.delenv("KGTOOL_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("kgtool", appauthor=False))
    assert cache_folder().is_relative_to(tmp_path)
    assert not (tmp_path / "kg").exists(), "naming a cache makes none"


def test_a_name_stands_for_the_cached_archive(packed):
    assert resolve("ring") == resolve(Path("ring")) == cached_file(packed)
    dataset = load_dataset("ring")
    assert (dataset.name, dataset.path) == ("ring", cached_file(packed))
    assert dataset.fingerprint == load_dataset(cached_file(packed)).fingerprint
    assert load_negatives("ring", dataset.vocabulary) == {}
    assert fetch("ring") == cached_file(packed)
    assert data_sets().set_index("name").loc["ring", "fetched"]


def test_what_exists_is_meant_first(packed, tmp_path):
    folder = write_folder(ring(), tmp_path / "work" / "ring")
    assert resolve("ring") == Path("ring")
    assert load_dataset("ring").path == Path("ring")
    shutil.rmtree(folder)
    assert resolve("ring") == cached_file(packed)


def test_a_name_that_is_not_fetched_tells_how(packed, monkeypatch):
    cached_file(packed).unlink()
    assert not is_fetched(packed)
    for load in (resolve, load_dataset, kgtool.open_predictor):
        with pytest.raises(DataError) as caught:
            load("ring")
        assert str(caught.value) == (
            "ring: no such file or folder; the data set with this name is not fetched yet. "
            "Remedy: kgtool data fetch ring"
        )
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("same_size", [True, False])
def test_a_damaged_archive_is_not_loaded(packed, same_size):
    file = cached_file(packed)
    data = bytearray(file.read_bytes())
    data[4] ^= 1  # the time stamp: the archive would load as it was
    file.write_bytes(data if same_size else data[:-1])
    assert not is_fetched(packed)
    said = f"with this name is damaged ({file}). Remedy: kgtool data fetch ring"
    with pytest.raises(DataError, match=re.escape(said)):
        load_dataset("ring")


def test_a_folder_under_the_name_of_the_archive_is_no_archive(packed):
    cached_file(packed).unlink()
    cached_file(packed).mkdir()
    assert not is_fetched(packed)


@pytest.mark.parametrize("place", ["a/umls", "./umls/", "../umls", "umls.tar.gz", "", "a b", "é"])
def test_other_places_are_left_as_they_are(place, monkeypatch):
    assert resolve(place) == Path(place)


def test_a_path_does_not_need_the_registry(own, tmp_path):
    own("broken")
    write_folder(ring(), tmp_path / "work" / "graph")
    assert load_dataset("graph").num_entities == 24
    with pytest.raises(ConfigError, match="not TOML"):
        load_dataset("grahp")


def test_a_missing_path_gives_the_nearest_name_unless_a_file_is_nearer(tmp_path):
    with pytest.raises(
        DataError, match=r"check the path, or give umls, a name of kgtool data list"
    ):
        load_dataset("UMLS")
    write_folder(ring(), tmp_path / "work" / "umls2")
    with pytest.raises(DataError, match=r"Remedy: give umls2, the nearest name there\."):
        load_dataset("umls3")
