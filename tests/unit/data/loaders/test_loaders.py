"""Loading: exact labels, exact errors."""

from __future__ import annotations

import gzip
import io
import random
import re
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import delimited, load_dataset, load_with_report
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.read import read_file
from kgtool.data.loaders.reading import Reading
from kgtool.errors import DataError
from kgtool.storage import compression
from kgtool.storage.compression import File

Files = Mapping[str, bytes]
SOUND = {"train.txt": b"a\tr\tb\nb\ts\tc\n", "valid.txt": b"a\ts\tc\n", "test.txt": b"c\tr\ta\n"}
SOUND_TRIPLES = {
    "train": [("a", "r", "b"), ("b", "s", "c")],
    "valid": [("a", "s", "c")],
    "test": [("c", "r", "a")],
}


def write_folder(folder: Path, compression: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in compression.items():
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, compression: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in compression.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, compression: Files, others: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in compression.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in others:
            archive.addfile(member)
    return path


def labelled(dataset: KGDataset, split: str) -> list[tuple[str, str, str]]:
    entities, relations = dataset.vocabulary.entities, dataset.vocabulary.relations
    return [(entities[h], relations[r], entities[t]) for h, r, t in dataset.split(split).tolist()]


def all_labelled(dataset: KGDataset) -> dict[str, list[tuple[str, str, str]]]:
    return {split: labelled(dataset, split) for split in SPLITS}


def refusal(path: Path, vocabulary: Vocabulary | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path, vocabulary)
    return str(caught.value)


# --- labels are exact


@pytest.mark.parametrize(
    ("content", "triples"),
    [
        pytest.param(b"a\tr\tb\n", [("a", "r", "b")], id="plain"),
        pytest.param(b"a\tr\tb", [("a", "r", "b")], id="no final newline"),
        pytest.param(b"a\tr\tb\r\nb\tr\ta\r\n", [("a", "r", "b"), ("b", "r", "a")], id="CRLF"),
        pytest.param(b"a\tr\tb\r\nb\tr\ta", [("a", "r", "b"), ("b", "r", "a")], id="CRLF, no end"),
        pytest.param(b"a\tr\tb\nb\tr\ta\r\n", [("a", "r", "b"), ("b", "r", "a")], id="mixed ends"),
        pytest.param(b"a\tr\tb\n\n\r\n\n", [("a", "r", "b")], id="blank lines at the end"),
        pytest.param(b"\xef\xbb\xbfa\tr\tb\n", [("a", "r", "b")], id="BOM"),
        pytest.param(b"\xef\xbb\xbfa\tr\tb\r\n", [("a", "r", "b")], id="BOM and CRLF"),
        pytest.param(
            b"a\tr\tb\n\xef\xbb\xbfa\tr\tb", [("a", "r", "b"), ("\ufeffa", "r", "b")], id="late BOM"
        ),
        pytest.param(b"NA\tnull\tNaN\n", [("NA", "null", "NaN")], id="missing values"),
        pytest.param(b"1e5\t007\t1.0\n", [("1e5", "007", "1.0")], id="numbers"),
        pytest.param(b"True\tNone\t-1\n", [("True", "None", "-1")], id="True, None, -1"),
        pytest.param(b'"a\tr"\tb""c\n', [('"a', 'r"', 'b""c')], id="quotes"),
        pytest.param(b"#a\t//r\t%b\n", [("#a", "//r", "%b")], id="comments"),
        pytest.param(b"a\\tb\t\\N\tc\\\n", [("a\\tb", "\\N", "c\\")], id="backslashes"),
        pytest.param(b" a \tr  s\t b\n", [(" a ", "r  s", " b")], id="spaces"),
        pytest.param(b"a,b\tr;s\tc|d\n", [("a,b", "r;s", "c|d")], id="separators"),
        pytest.param(
            "a\u2028b\tr\x85\tc\x0bd\x0ce\x1cf\n".encode(),
            [("a\u2028b", "r\x85", "c\x0bd\x0ce\x1cf")],
            id="other line ends",
        ),
        pytest.param("é\te\u0301\t😀\n".encode(), [("é", "e\u0301", "😀")], id="not normalised"),
        pytest.param("\u200b\t\ufeff\tb".encode(), [("\u200b", "\ufeff", "b")], id="zero width"),
    ],
)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_taken_as_they_stand(
    tmp_path: Path, content: bytes, triples: list[tuple[str, str, str]], split: str
) -> None:
    dataset = load_dataset(write_folder(tmp_path / "kg", {**SOUND, f"{split}.txt": content}))
    assert all_labelled(dataset) == {**SOUND_TRIPLES, split: triples}


TABS = "3 are expected (head, relation, tail, separated by tabs)"
COLUMNS = (
    "Remedy: pass the numbers of head, relation and tail, in this order, by --columns (kgtool data "
    "inspect, convert and split take it; then use the new folder): 1 is 'a', 2 is 'r', 3 is 'b', 4 "
    "is {!r}."
)
GIVE = "Remedy: give the line a head, a relation and a tail, separated by single tabs."


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        pytest.param(
            b"a b",
            1,
            f"1 column where {TABS}: 'a b'. {GIVE}",
            id="one column",
        ),
        pytest.param(
            b"a\tr\tb\nc\td\n", 2, f"2 columns where {TABS}: 'c\\td'. {GIVE}", id="two columns"
        ),
        pytest.param(
            b"a\tr\tb\r\nc r d\r\n",
            2,
            f"1 column where {TABS}: 'c r d'. Remedy: separate the columns by tabs, not spaces.",
            id="spaces",
        ),
        pytest.param(
            b"a,r,b\nc,r\n",
            1,
            f"1 column where {TABS}: 'a,r,b'. Remedy: separate the columns by tabs, not commas, "
            "or pass --delimiter ',' (kgtool data inspect, convert and split take it; then use the "
            "new folder).",
            id="commas in the first line only",
        ),
        pytest.param(
            b"a\tr\tb\t\nc\tr\td\t\n",
            1,
            f"4 columns where 3 are expected: 'a', 'r', 'b', ''. {COLUMNS.format('')}",
            id="tab at the end",
        ),
        pytest.param(
            b"a\tr\tb\t0.5",
            1,
            f"4 columns where 3 are expected: 'a', 'r', 'b', '0.5'. {COLUMNS.format('0.5')}",
            id="four columns",
        ),
        pytest.param(
            b"a\tr\tb\na\tr\tb\t\n",
            2,
            f"4 columns where {TABS}: 'a\\tr\\tb\\t'. "
            "Remedy: remove the tabs at the end of the line.",
            id="tab at the end of a later line",
        ),
        pytest.param(
            b"a\tr\tb\na\tr\tb\t0.5",
            2,
            f"4 columns where {TABS}: 'a\\tr\\tb\\t0.5'. "
            "Remedy: keep the first 3 columns only, and tabs out of labels.",
            id="four columns later",
        ),
        pytest.param(
            b"a\tr\nb\tr\tc\td\n",
            1,
            f"2 columns where {TABS}: 'a\\tr'. {GIVE}",
            id="six fields on two lines",
        ),
        pytest.param(
            b"a\t\tb\n",
            1,
            "an empty relation: 'a\\t\\tb'. Remedy: fill it in, or remove the line.",
            id="empty relation",
        ),
        pytest.param(
            b"a\tr\tb\n\tr\tb\n",
            2,
            "an empty head: '\\tr\\tb'. Remedy: fill it in, or remove the line.",
            id="empty head",
        ),
        pytest.param(
            b"a\tr\t\r\n",
            1,
            "an empty tail: 'a\\tr\\t'. Remedy: fill it in, or remove the line.",
            id="empty tail, CRLF",
        ),
        pytest.param(
            "a\tr\tb\na\tr\t \u2003\n".encode(),
            2,
            "a blank tail: 'a\\tr\\t \\u2003'. Remedy: fill it in, or remove the line.",
            id="blank tail",
        ),
        pytest.param(
            b"\xef\xbb\xbf\tr\tb\n",
            1,
            "an empty head: '\\tr\\tb'. Remedy: fill it in, or remove the line.",
            id="BOM is no head",
        ),
        pytest.param(
            b"a\tr\tb\n\n\na\tr\tc\n",
            2,
            "a blank line. Remedy: remove the line, or restore it.",
            id="blank line between",
        ),
        pytest.param(
            b"\r\na\tr\tc\n",
            1,
            "a blank line. Remedy: remove the line, or restore it.",
            id="blank line first",
        ),
        pytest.param(
            b"a\tr\tb\n   \n",
            2,
            f"1 column where {TABS}: '   '. {GIVE}",
            id="spaces only",
        ),
        pytest.param(
            b"a\tr\tb\nc\tr\tcaf\xe9\n",
            2,
            "not UTF-8: byte 0xe9 in the tail 'caf\ufffd'. Remedy: save the file as UTF-8.",
            id="latin-1",
        ),
        pytest.param(
            b"\xed\xa0\x80\tr\tb\n",
            1,
            "not UTF-8: byte 0xed in '\ufffd\ufffd\ufffd\\tr\\tb'. Remedy: save the file as UTF-8.",
            id="surrogate",
        ),
        pytest.param(
            "a\tr\tb\n".encode("utf-16"),
            1,
            "UTF-16 where UTF-8 is expected. Remedy: save it as UTF-8.",
            id="UTF-16",
        ),
        pytest.param(
            b"a\tr\tb\na\0\tr\tb\n",
            2,
            "a NUL byte: 'a\\x00\\tr\\tb'. Remedy: restore the file: it is damaged, or not text.",
            id="NUL",
        ),
        pytest.param(
            b"a\tr\tb\rc\tr\td\r",
            1,
            "a carriage return without a line feed: 'a\\tr\\tb\\rc\\tr\\td\\r'. Remedy: end the "
            "lines by LF or CRLF, and keep carriage returns out of labels.",
            id="old Mac",
        ),
        pytest.param(
            b"a\tr\tb\na\tr\tb\r\r\n",
            2,
            "a carriage return without a line feed: 'a\\tr\\tb\\r'. Remedy: end the "
            "lines by LF or CRLF, and keep carriage returns out of labels.",
            id="CRCRLF",
        ),
        pytest.param(
            b"a\tr\rx\tb\n",
            1,
            "a carriage return without a line feed: 'a\\tr\\rx\\tb'. Remedy: end the "
            "lines by LF or CRLF, and keep carriage returns out of labels.",
            id="CR in a label",
        ),
        pytest.param(
            b"\x1b[31m" + b"x" * 100,
            1,
            f"1 column where {TABS}: '\\x1b[31m{'x' * 54}…'. {GIVE}",
            id="long and unprintable",
        ),
    ],
)
def test_an_unsound_line_is_named(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    folder = write_folder(tmp_path / "kg", {**SOUND, "valid.txt": content})
    skip = (
        ", or pass --skip-bad-lines (kgtool data inspect, convert and split take it; then use the "
        "new folder)."
    )
    suffix = skip if line > 1 else "."
    assert refusal(folder) == f"{folder / 'valid.txt'}, line {line}: {message[:-1]}{suffix}"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_file_is_named(tmp_path: Path, content: bytes, split: str) -> None:
    folder = write_folder(tmp_path, {**SOUND, f"{split}.txt": content})
    assert refusal(folder) == (
        f"{folder}/{split}.txt: no triples: the file is empty. Remedy: write one triple per line."
    )


def slow_triples(data: bytes) -> list[tuple[str, str, str]] | int | None:
    """A slow version: the triples, the number of the first wrong line, or None without triples."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    *ended, rest = data.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in ended] + [rest]
    while lines and not lines[-1]:
        lines.pop()
    triples = []
    for number, line in enumerate(lines, 1):
        try:
            h, r, t = line.decode().split("\t")
        except ValueError:
            return number
        if not (h.strip() and r.strip() and t.strip()) or set(line) & {0, 13}:
            return number
        triples.append((h, r, t))
    return triples or None


fields = st.sampled_from([b"a", b"b", "é".encode()])
sound_lines = st.tuples(fields, fields, fields).map(b"\t".join)
odd_lines = st.lists(
    st.sampled_from([b"a", b"\t", b"\t", b"\r", b"\0", b" ", b"\xc3", b"\xef\xbb\xbf"]), max_size=6
).map(b"".join)
line_ends = st.sampled_from([b"\n", b"\r\n"])


@st.composite
def file_bytes(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(st.one_of(sound_lines, sound_lines, odd_lines), line_ends)))
    data = b"".join(line + end for line, end in lines)
    return draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + (
        data.removesuffix(b"\n") if draw(st.booleans()) else data
    )


@settings(max_examples=400, deadline=None)
@given(data=file_bytes(), chunk=st.integers(1, 40))
def test_the_reader_agrees_with_its_slow_twin(data: bytes, chunk: int) -> None:
    expected = slow_triples(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_CHUNK", chunk)
        file = File("train.txt", "train.txt", data)
        try:
            rows = read_file(file, Reading())
        except DataError as error:
            found = re.match(r"train\.txt(?:, line (\d+))?: ", str(error))
            assert found
            assert (found[1] and int(found[1])) == expected
        else:
            names = vocabulary_of([rows])
            ids = to_ids([rows], ["train.txt"], names)
            assert [
                (names.entities[h], names.relations[r], names.entities[t])
                for h, r, t in ids.tolist()
            ] == expected


labels = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"), min_size=1, max_size=8
).filter(lambda label: not label.isspace())
triples_of_labels = st.lists(
    st.tuples(labels, labels, labels), min_size=1, max_size=20, unique=True
).filter(lambda triples: not triples[0][0].startswith("\ufeff"))


@settings(max_examples=100, deadline=None)
@given(
    splits=st.fixed_dictionaries(dict.fromkeys(SPLITS, triples_of_labels)),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_label_comes_back(splits: dict[str, list[tuple[str, str, str]]], end: str) -> None:
    compression = {
        f"{split}.tsv": "".join("\t".join(triple) + end for triple in triples).encode()
        for split, triples in splits.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(write_folder(Path(folder), compression))
    assert all_labelled(dataset) == splits


# --- ids


def test_a_dataset_is_int64_and_knows_where_it_came_from(tmp_path: Path) -> None:
    dataset = load_dataset(str(write_folder(tmp_path / "kg.v1", SOUND)))
    assert (dataset.name, dataset.path) == ("kg.v1", tmp_path / "kg.v1")
    assert (dataset.num_entities, dataset.num_relations) == (3, 2)
    for split in SPLITS:
        assert dataset.split(split).dtype == torch.int64
        assert dataset.split(split).is_contiguous()
    assert dataset.train.tolist() == [[0, 0, 1], [1, 1, 2]]


def test_ids_are_in_code_point_order_over_all_splits(tmp_path: Path) -> None:
    compression = {
        "train.txt": "b\tz\t\U00010000\na\ty\t\uffff\n",
        "valid.txt": "Z\tx\té\n",
        "test.txt": "r10\tB\tr2\n",
    }
    dataset = load_dataset(write_folder(tmp_path, {k: v.encode() for k, v in compression.items()}))
    # UTF-16 units would put U+10000 before U+FFFF
    assert dataset.vocabulary.entities == ("Z", "a", "b", "r10", "r2", "é", "\uffff", "\U00010000")
    assert dataset.vocabulary.relations == ("B", "x", "y", "z")
    assert dataset.train.tolist() == [[2, 3, 7], [1, 2, 6]]


def test_ids_do_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    lines = [f"e{i % 7}\tr{i % 3}\te{i % 11}\n".encode() for i in range(60)]
    shuffled = random.Random(0).sample(lines, len(lines))
    one = load_dataset(write_folder(tmp_path / "1", {**SOUND, "train.txt": b"".join(lines)}))
    two = load_dataset(write_folder(tmp_path / "2", {**SOUND, "train.txt": b"".join(shuffled)}))
    assert one.vocabulary == two.vocabulary
    assert one.train.tolist() != two.train.tolist()
    assert sorted(one.train.tolist()) == sorted(two.train.tolist())


def test_the_first_of_duplicates_is_kept(tmp_path: Path) -> None:
    train = b"b\tr\ta\na\tr\tb\nb\tr\ta\na\tr\tb\na\ts\tb\n"
    dataset = load_dataset(write_folder(tmp_path, {**SOUND, "train.txt": train}))
    assert labelled(dataset, "train") == [("b", "r", "a"), ("a", "r", "b"), ("a", "s", "b")]


def test_a_given_vocabulary_sets_the_ids(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("c", "x", "b", "a"), ("s", "q", "r"))
    dataset = load_dataset(write_folder(tmp_path, SOUND), vocabulary)
    assert dataset.vocabulary is vocabulary
    assert dataset.train.tolist() == [[3, 2, 2], [2, 0, 0]]
    assert all_labelled(dataset) == SOUND_TRIPLES


@pytest.mark.parametrize(
    ("vocabulary", "place", "problem"),
    [
        (
            Vocabulary(("a", "b", "carrot"), ("r", "s")),
            "train.txt, line 2",
            "the entity 'c' is not in the vocabulary. Remedy: use a label of the vocabulary, or "
            "train a new run on this data.",
        ),
        (
            Vocabulary(("a", "b", "c"), ("r", "s")),
            "valid.txt, line 3",
            "the entity 'colour' is not in the vocabulary. Remedy: use a label of the vocabulary, "
            "or train a new run on this data.",
        ),
        (
            Vocabulary(("a", "b", "c", "color", "other"), ("r", "s")),
            "valid.txt, line 3",
            "the entity 'colour' is not in the vocabulary. Remedy: use a label of the vocabulary "
            "(did you mean 'color'?), or train a new run on this data.",
        ),
        (
            Vocabulary(("a", "b", "c", "colour"), ("r", "s")),
            "test.txt, line 2",
            "the relation 'treats' is not in the vocabulary. Remedy: use a label of the "
            "vocabulary, or train a new run on this data.",
        ),
        (
            Vocabulary(("a", "b", "c", "colour"), ("r", "s", "treat")),
            "test.txt, line 2",
            "the relation 'treats' is not in the vocabulary. Remedy: use a label of the "
            "vocabulary (did you mean 'treat'?), or train a new run on this data.",
        ),
    ],
)
def test_a_label_that_the_vocabulary_lacks_is_named(
    tmp_path: Path, vocabulary: Vocabulary, place: str, problem: str
) -> None:
    compression = {
        "train.txt": SOUND["train.txt"],
        "valid.txt": b"a\tr\tb\na\tr\tb\na\tr\tcolour\ncolour\tr\ta\n",
        "test.txt": b"a\ts\tb\nb\ttreats\ta",
    }
    folder = write_folder(tmp_path, compression)
    assert refusal(folder, vocabulary) == f"{folder}/{place}: {problem}"


# --- folders


def test_either_suffix_and_other_files_are_accepted(tmp_path: Path) -> None:
    compression = {
        "train.tsv": SOUND["train.txt"],
        "valid.txt": SOUND["valid.txt"],
        "test.tsv": SOUND["test.txt"],
        "README.md": b"\xff",
        "train.md": b"x",
        "._train.txt": b"\0",
        "valid_negatives.txt": b"a",
    }
    assert all_labelled(load_dataset(write_folder(tmp_path, compression))) == SOUND_TRIPLES


def test_two_files_for_a_split_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {**SOUND, "valid.tsv": b"a\tr\tb"})
    assert refusal(folder) == (
        f"{folder}: more than one file for the valid split: 'valid.tsv', 'valid.txt'. "
        "Remedy: keep one."
    )


OTHERS = (
    "(or .tsv, .csv, .parquet, .pq, .jsonl, .ndjson, .json, .nt, .nq, .ttl, .trig, .rdf, .owl, "
    ".jsonld, .dgl)"
)


def test_a_missing_split_is_named_with_what_is_there(tmp_path: Path) -> None:
    compression = {"train.txt": b"a\tr\tb", "Valid.txt": b"a\tr\tb", "test.txt": b"a\tr\tb"}
    folder = write_folder(tmp_path, {**compression, ".DS_Store": b""})
    assert refusal(folder) == (
        f"{folder}: no valid.txt {OTHERS} for the valid split; "
        "the files are 'Valid.txt', 'test.txt', 'train.txt'. Remedy: name the file of the valid "
        "split "
        "valid.txt (did you mean 'Valid.txt'?)."
    )


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert f"no train.txt {OTHERS} for the train split; it has no files." in refusal(tmp_path)


def test_a_folder_around_the_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "inner", SOUND)
    assert refusal(tmp_path).endswith(
        f"Remedy: give the folder of the split files: {tmp_path / 'inner'}."
    )


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {name: SOUND[name] for name in ("train.txt", "test.txt")})
    (folder / "valid.txt").mkdir()
    assert refusal(folder) == (
        f"{folder}/valid.txt: not a file. Remedy: put a file of triples at valid.txt."
    )


def test_one_file_of_a_data_set_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {**SOUND, "kg.xls": b"a"})
    assert refusal(tmp_path / "train.txt") == (
        f"{tmp_path / 'train.txt'}: the train split alone, with the other splits next to it. "
        f"Remedy: give its folder: {tmp_path}."
    )
    assert refusal(tmp_path / "kg.xls").startswith(
        f"{tmp_path / 'kg.xls'}: the file name does not show the format. Remedy: pass --format "
    )


def test_a_missing_path_is_named_with_the_nearest(tmp_path: Path) -> None:
    write_tar(tmp_path / "FB15k-237.tar.gz", SOUND)
    write_folder(tmp_path / "umls", SOUND)
    (tmp_path / "K.zip").touch()
    for given_name, found in (
        ("FB15k237.tar.gz", "FB15k-237.tar.gz"),
        ("FB15k-237", "FB15k-237.tar.gz"),
        ("ulms", "umls"),
        ("K", "K.zip"),
    ):
        assert refusal(tmp_path / given_name) == (
            f"{tmp_path / given_name}: no such file or folder. "
            f"Remedy: give {tmp_path / found}, the nearest name there."
        )
    assert refusal(tmp_path / "quite other") == (
        f"{tmp_path}/quite other: no such file or folder. Remedy: check the path."
    )
    assert "no such file or folder; its folder" in refusal(tmp_path / "x" / "umls")


# --- archives

ARCHIVES = {"kg.zip": write_zip, "kg.tar.gz": write_tar, "kg.tgz": write_tar}
Write = Callable[[Path, Files], Path]
each_archive = pytest.mark.parametrize(("name", "write"), list(ARCHIVES.items()))


@each_archive
@pytest.mark.parametrize("prefix", ["", "./", "kg/", "./data/kg/", "data\\kg\\"])
def test_an_archive_holds_the_files_at_its_root_or_in_one_folder(
    tmp_path: Path, name: str, write: Write, prefix: str
) -> None:
    compression = {prefix + member: data for member, data in SOUND.items()}
    noise = {
        "__MACOSX/kg/._train.txt": b"\0",
        "__MACOSX/train.txt": b"\0",
        f"{prefix}._valid.txt": b"\0",
        ".git/test.txt": b"\0",
        "README.md": b"\xff",
        "other/notes.txt": b"\xff",
    }
    dataset = load_dataset(write(tmp_path / name, {**noise, **compression}))
    assert all_labelled(dataset) == SOUND_TRIPLES
    assert dataset.name == "kg"
    assert dataset.path == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name], "something was unpacked"


@each_archive
def test_an_error_names_the_file_in_the_archive(tmp_path: Path, name: str, write: Write) -> None:
    path = write(tmp_path / name, {f"kg/{k}": v for k, v in {**SOUND, "test.txt": b"a"}.items()})
    assert refusal(path) == f"{path}:kg/test.txt, line 1: 1 column where {TABS}: 'a'. {GIVE}"


@each_archive
def test_an_archive_with_two_folders_is_refused(tmp_path: Path, name: str, write: Write) -> None:
    compression = {f"{folder}/{k}": v for folder in ("v1", "v1_ind") for k, v in SOUND.items()}
    path = write(tmp_path / name, compression)
    assert refusal(path) == (
        f"{path}: split files in 2 folders: 'v1', 'v1_ind'. "
        "Remedy: unpack the archive and give one of these folders."
    )


@each_archive
def test_an_archive_without_a_split_is_refused(tmp_path: Path, name: str, write: Write) -> None:
    path = write(tmp_path / name, {"train.txt": b"a", "test.txt": b"a", "dev/x.txt": b"a"})
    assert f"no valid.txt {OTHERS} for the valid split" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("second", ["train.txt", "train.tsv", "./train.txt"])
@each_archive
def test_an_archive_with_two_files_for_a_split_is_refused(
    tmp_path: Path, name: str, write: Write, second: str
) -> None:
    path = tmp_path / name
    if name == "kg.zip":
        write_zip(path, SOUND)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(second, b"a\tr\tb")
    else:
        write_tar(path, SOUND, (tarfile.TarInfo(second),))
    assert f"{path}: more than one file for the train split" in refusal(path)


@each_archive
@pytest.mark.parametrize("prefix", ["../", "/", "kg/../../"])
def test_a_member_outside_the_archive_is_refused(
    tmp_path: Path, name: str, write: Write, prefix: str
) -> None:
    path = write(tmp_path / name, {prefix + member: data for member, data in SOUND.items()})
    assert refusal(path) == (
        f"{path}: the member '{prefix}train.txt' points outside the archive. "
        "Remedy: repack the archive."
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("kg/valid.txt")
    link.type, link.linkname = kind, "/etc/hostname"
    compression = {f"kg/{name}": SOUND[name] for name in ("train.txt", "test.txt")}
    path = write_tar(tmp_path / "kg.tar.gz", compression, (link,))
    assert refusal(path) == (
        f"{path}:kg/valid.txt: a link, folder or device where a file is expected. "
        "Remedy: repack the archive with the files themselves (tar --dereference)."
    )


def test_other_links_in_a_tar_are_ignored(tmp_path: Path) -> None:
    link = tarfile.TarInfo("kg/latest")
    link.type, link.linkname = tarfile.SYMTYPE, "../../.."
    path = write_tar(tmp_path / "kg.tar.gz", {f"kg/{k}": v for k, v in SOUND.items()}, (link,))
    assert all_labelled(load_dataset(path)) == SOUND_TRIPLES


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "kg.zip", {k: SOUND[k] for k in ("train.txt", "test.txt")})
    link = zipfile.ZipInfo("valid.txt")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/hostname")
    assert f"{path}:valid.txt: a link, folder or device" in refusal(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "kg.zip", SOUND)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(data)
    assert f"{path}:train.txt: encrypted, or" in refusal(path)


@each_archive
def test_an_archive_that_unfolds_too_far_is_refused(
    tmp_path: Path, name: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = b"a\tr\tb\n" * 20_000
    path = write(tmp_path / name, {**SOUND, "train.txt": big})
    load_dataset(path)
    monkeypatch.setattr(compression, "MAX_BYTES", 100_000)
    assert path.stat().st_size < 10_000
    assert refusal(path) == (
        f"{path}: more than 100,000 bytes when uncompressed. "
        "Remedy: unpack it, if you trust it, and give the folder."
    )


def test_a_tar_that_unfolds_too_far_before_its_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "kg.tar.gz", {"padding": bytes(5_000_000), **SOUND})
    load_dataset(path)
    monkeypatch.setattr(compression, "MAX_BYTES", 2_000_000)
    assert "more than 2,000,000 bytes" in refusal(path)


@each_archive
def test_the_files_of_an_archive_count_together(
    tmp_path: Path, name: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, dict.fromkeys(SOUND, b"a\tr\tb\n" * 10_000))
    monkeypatch.setattr(compression, "MAX_BYTES", 150_000)
    assert f"{path}: more than 150,000 bytes" in refusal(path)


def test_the_checksum_at_the_end_of_a_tar_gz_is_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "kg.tar.gz", SOUND)
    # far more padding than is read for the last member
    data = bytearray(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(5_000_000)))
    path.write_bytes(data)
    load_dataset(path)
    data[-6] ^= 1
    path.write_bytes(data)
    assert f"{path}: damaged, cut short or not a .tar.gz file (BadGzipFile: CRC" in refusal(path)


def test_a_sparse_member_counts_by_its_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "MAX_BYTES", 2_000_000)
    sparse = tarfile.TarInfo("train.txt")
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(10**13),
    }
    path = write_tar(tmp_path / "kg.tar.gz", {}, (sparse,))
    assert "more than 2,000,000 bytes" in refusal(path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "kg.zip", {**SOUND, "train.txt": b"a\tr\tb\n" * 1000})
    data = path.read_bytes()
    path.write_bytes(data.replace((6000).to_bytes(4, "little"), (12).to_bytes(4, "little")))
    assert f"{path}: damaged, cut short or not a .zip file (BadZipFile: " in refusal(path)


NOISE = random.Random(0).randbytes(3000)


@each_archive
@pytest.mark.parametrize("part", [0, 0.05, 0.5, 0.9, 0.997])
def test_an_archive_cut_short_is_refused(
    tmp_path: Path, name: str, write: Write, part: float
) -> None:
    path = write(tmp_path / name, {**SOUND, "noise.bin": NOISE})
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    suffix = name.removeprefix("kg")
    message = refusal(path)
    assert f"{path}: damaged, cut short or not a {suffix} file (" in message
    assert message.endswith("Remedy: fetch or pack it again.")


@each_archive
def test_another_file_under_the_name_of_an_archive_is_refused(
    tmp_path: Path, name: str, write: Write
) -> None:
    path = tmp_path / name
    path.write_bytes(b"a\tr\tb\n" * 400)
    assert f"{path}: damaged, cut short or not a" in refusal(path)
    path.write_bytes(gzip.compress(b"a\tr\tb\n" * 400))
    assert f"{path}: damaged, cut short or not a" in refusal(path)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(ARCHIVES)), seed=st.integers(0, 2**32))
def test_damage_never_goes_unseen(name: str, seed: int) -> None:
    """A damaged archive is refused, or gives the same triples if only a time stamp changed."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = ARCHIVES[name](Path(folder) / name, {**SOUND, "noise.bin": NOISE[:300]})
        data = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] ^= rng.randint(1, 255)
        path.write_bytes(data)
        try:
            dataset = load_dataset(path)
        except DataError:
            return
        assert all_labelled(dataset) == SOUND_TRIPLES


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_tar_inside_a_sound_gzip_ends_in_a_data_error(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = write_tar(Path(folder) / "kg.tar.gz", SOUND)
        data = bytearray(gzip.decompress(path.read_bytes())[: rng.randint(1, 6000)])
        for _ in range(rng.randint(0, 4)):
            data[rng.randrange(len(data))] ^= rng.randint(1, 255)
        path.write_bytes(gzip.compress(data))
        with suppress(DataError):
            load_dataset(path)


# --- public benchmarks


def test_fb15k_237_loads_whole_and_soon(benchmark_archive: Callable[[str], Path]) -> None:
    path = benchmark_archive("FB15k-237.tar.gz")
    start = time.process_time()  # other programs may have the processor
    dataset, report = load_with_report(path)
    seconds = time.process_time() - start
    assert (dataset.num_entities, dataset.num_relations) == (14_541, 237)
    assert [len(dataset.split(split)) for split in SPLITS] == [272_115, 17_535, 20_466]
    assert labelled(dataset, "train")[0] == (
        "/m/027rn",
        "/location/country/form_of_government",
        "/m/06cx9",
    )
    assert report.test.unseen_entities.triples.count == 28
    # Toutanova & Chen took every linked pair out of valid and test
    for split in (report.valid, report.test):
        assert split.in_train.count == split.in_valid.count == 0
        assert split.reversed_in_train.count == split.same_pair_in_train.count == 0
    assert seconds < 3


def test_wn18rr_keeps_its_reversed_pairs_in_the_report(
    benchmark_archive: Callable[[str], Path],
) -> None:
    dataset, report = load_with_report(benchmark_archive("WN18RR.tar.gz"))
    assert (dataset.num_entities, dataset.num_relations) == (40_943, 11)
    assert [split.triples for split in report.splits] == [86_835, 3_034, 3_134]
    assert report.test.unseen_entities.triples.count == 210
    triples = {split: labelled(dataset, split) for split in ("train", "test")}
    pairs = {(h, t) for h, _, t in triples["train"]}
    reversed_in_train = sum((t, h) in pairs for h, _, t in triples["test"] if h != t)
    assert report.test.reversed_in_train.count == reversed_in_train > 1000
