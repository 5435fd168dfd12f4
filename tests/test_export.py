"""The exported embeddings, read back by pandas and by word2vec readers."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kgtool.errors import DataError, KGToolError
from kgtool.export import FILES, export_embeddings
from kgtool.triples import Vocabulary

HARD = ("NA", "null", "1e5", '"quoted', "", " a b ", "日本 é", "#x", "a,b", "nan", "\ufeffx", "\\t")


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path, sep="\t", dtype={"label": str}, keep_default_na=False, quoting=3, encoding="utf-8"
    )


def read_word2vec(path: Path) -> tuple[list[str], np.ndarray]:
    """Words and `(count, dim)` float32 vectors, fields parted by single spaces."""
    head, *lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    count, dim = map(int, head.split(" "))
    fields = [line.split(" ") for line in lines]
    assert len(fields) == count
    assert all(len(row) == dim + 1 for row in fields)
    words = [row[0] for row in fields]
    assert all(row[0] == " ".join(row).split()[0] for row in fields)  # no whitespace of any kind
    vectors = np.array([[float(x) for x in row[1:]] for row in fields], dtype=np.float32)
    return words, vectors.reshape(count, dim)


def bits(vectors: np.ndarray | torch.Tensor) -> list[list[int]]:
    """The float32 numbers as integers, so that 0.0 and -0.0 differ."""
    floats = np.ascontiguousarray(np.asarray(vectors, dtype=np.float32))
    integers: list[list[int]] = floats.view(np.uint32).tolist()
    return integers


def hard_floats(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    """`(rows, dim)` float32 of every finite bit pattern alike, the edges of the range in front."""
    patterns = np.random.default_rng(seed).integers(0, 2**32, 2 * rows * dim, dtype=np.uint32)
    floats = patterns.view(np.float32)
    info = np.finfo(np.float32)
    edges = [-0.0, 0.0, 1.0, info.max, info.min, info.tiny, info.smallest_subnormal, 1e-40, 0.1]
    edges += [123456789.0, 2**24 + 2, 1 + info.eps]
    floats = np.concatenate([np.array(edges, np.float32), floats[np.isfinite(floats)]])
    return torch.from_numpy(floats[: rows * dim].reshape(rows, dim))


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(HARD, ("r 1", "NA", "\u2003"))


def test_the_table_reads_back_bit_by_bit(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 7), hard_floats(6, 7, seed=1)
    paths = export_embeddings(vocabulary, entities, relations, tmp_path / "new" / "out")
    assert paths == [tmp_path / "new" / "out" / name for name in FILES]
    table = read_table(paths[0])
    assert list(table.columns) == ["kind", "label", *"0123456"]
    assert table["label"].tolist() == [*HARD, *vocabulary.relations, *vocabulary.relations]
    kinds = ["entity"] * len(HARD) + ["relation"] * 3 + ["inverse_relation"] * 3
    assert table["kind"].tolist() == kinds
    assert bits(table.iloc[:, 2:].to_numpy()) == bits(torch.cat([entities, relations]))


def test_many_bit_patterns_read_back(tmp_path):
    entities = hard_floats(1100, 20)  # more than a chunk of rows
    vocabulary = Vocabulary(tuple(map(str, range(1100))), ("r",))
    export_embeddings(vocabulary, entities, torch.zeros(1, 20), tmp_path)
    assert bits(read_table(tmp_path / FILES[0]).iloc[:-1, 2:].to_numpy()) == bits(entities)
    words, vectors = read_word2vec(tmp_path / "entities.word2vec.txt")
    assert words == list(vocabulary.entities)
    assert bits(vectors) == bits(entities)


def test_a_column_of_minus_zeros_and_whole_numbers_stays_floating(tmp_path):
    entities = torch.tensor([[-0.0, 3.0], [-0.0, 1e8]])
    export_embeddings(Vocabulary(("a", "b"), ()), entities, torch.zeros(0, 2), tmp_path)
    table = read_table(tmp_path / FILES[0])
    assert table[["0", "1"]].dtypes.tolist() == [np.float64, np.float64]
    assert bits(table[["0", "1"]].to_numpy()) == bits(entities)


def test_relations_without_inverses(tmp_path, vocabulary):
    export_embeddings(vocabulary, torch.ones(len(HARD), 2), torch.zeros(3, 2), tmp_path)
    assert set(read_table(tmp_path / FILES[0])["kind"]) == {"entity", "relation"}
    words, vectors = read_word2vec(tmp_path / "relations.word2vec.txt")
    assert words == ["r_1", "NA", "_"]
    assert vectors.shape == (3, 2)


def test_the_projector_pair_fits_line_by_line(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 3), hard_floats(6, 3, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path)
    numbers = (tmp_path / "projector_vectors.tsv").read_text(encoding="utf-8").split("\n")
    metadata = (tmp_path / "projector_metadata.tsv").read_text(encoding="utf-8").split("\n")
    assert len(metadata) == len(numbers) + 1  # the header
    assert numbers.pop() == metadata.pop() == ""
    assert metadata.pop(0) == "label\tkind"
    table = read_table(tmp_path / FILES[0])
    pairs = [tuple(line.split("\t")) for line in metadata]
    assert pairs == list(zip(table["label"], table["kind"], strict=True))
    read = np.array([[float(x) for x in line.split("\t")] for line in numbers])
    assert bits(read) == bits(torch.cat([entities, relations]))


def test_word2vec(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 3), hard_floats(6, 3, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path)
    words, vectors = read_word2vec(tmp_path / "entities.word2vec.txt")
    assert words[:7] == ["NA", "null", "1e5", '"quoted', "_", "_a_b_", "日本_é"]
    assert words[7:] == list(HARD[7:])
    assert bits(vectors) == bits(entities)
    words, vectors = read_word2vec(tmp_path / "relations.word2vec.txt")
    assert words == ["r_1", "NA", "_", "r_1_inverse", "NA_inverse", "__inverse"]
    assert bits(vectors) == bits(relations)


def test_gensim_reads_word2vec(tmp_path, vocabulary):
    models = pytest.importorskip("gensim.models")
    entities, relations = hard_floats(len(HARD), 3), hard_floats(6, 3, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path)
    for name, tensor in (("entities", entities), ("relations", relations)):
        path = tmp_path / f"{name}.word2vec.txt"
        vectors = models.KeyedVectors.load_word2vec_format(str(path))
        assert vectors.index_to_key == read_word2vec(path)[0]
        assert bits(vectors.vectors) == bits(tensor)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("a b", "a_b"), ["a_b_2", "a_b"]),
        (("a_b", "a b", "a\u00a0b"), ["a_b", "a_b_2", "a_b_3"]),
        (("a b", "a_b", "a_b_2", "a\x0bb"), ["a_b_3", "a_b", "a_b_2", "a_b_4"]),
        (("a b", "a_b_2", "a\x85b"), ["a_b", "a_b_2", "a_b_3"]),
        (("", "_", " "), ["__2", "_", "__3"]),
    ],
)
def test_colliding_words(tmp_path, labels, words):
    export_embeddings(
        Vocabulary(labels, ()), torch.ones(len(labels), 1), torch.ones(0, 1), tmp_path
    )
    assert read_word2vec(tmp_path / "entities.word2vec.txt")[0] == words


def test_inverse_words_collide_with_no_relation(tmp_path):
    relations = ("x", "x_inverse", "x_inverse_2")
    export_embeddings(Vocabulary((), relations), torch.ones(0, 1), torch.ones(6, 1), tmp_path)
    words, _ = read_word2vec(tmp_path / "relations.word2vec.txt")
    inverses = ["x_inverse_3", "x_inverse_inverse", "x_inverse_2_inverse"]
    assert words == [*relations, *inverses]


TEXT = st.text(st.characters(exclude_characters="\t\n\r", codec="utf-8"), max_size=6)
# Few characters, so that labels collide once their spaces are replaced.
CLOSE = st.text(st.sampled_from(" _a2\u2028\x1f"), max_size=4)


@settings(deadline=None)  # each example waits for the disk
@given(st.lists(TEXT | CLOSE, unique=True, max_size=12))
@example(["\0", "\x1c\x1d\x1e\x85\u2028", "\x1a", "a\0b"])
def test_any_labels_read_back(labels):
    vectors = hard_floats(len(labels), 2)
    with tempfile.TemporaryDirectory() as folder:
        export_embeddings(Vocabulary(tuple(labels), ()), vectors, torch.ones(0, 2), folder)
        table = read_table(Path(folder) / FILES[0])
        words, numbers = read_word2vec(Path(folder) / "entities.word2vec.txt")
    assert table["label"].tolist() == labels
    assert bits(table[["0", "1"]].to_numpy(dtype=np.float32)) == bits(vectors) == bits(numbers)
    assert len(set(words)) == len(labels)
    plain = [label for label in labels if label and not any(map(str.isspace, label))]
    assert [words[labels.index(label)] for label in plain] == plain


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_written_as_float32(tmp_path, dtype):
    entities = torch.tensor([[1 / 3, -1e-3]], dtype=torch.float64).to(dtype).requires_grad_()
    export_embeddings(Vocabulary(("a",), ()), entities, torch.ones(0, 2), tmp_path)
    read = read_table(tmp_path / FILES[0])[["0", "1"]].to_numpy()
    assert bits(read) == bits(entities.detach().float())


@pytest.mark.parametrize("label", ["a\tb", "a\nb", "a\r", "\ud800"])
@pytest.mark.parametrize("kind", ["entity", "relation"])
def test_a_label_that_a_tsv_cannot_hold(tmp_path, label, kind):
    labels = (("x", label), ("r",)) if kind == "entity" else (("x", "y"), (label,))
    with pytest.raises(DataError) as caught:
        export_embeddings(Vocabulary(*labels), torch.ones(2, 1), torch.ones(1, 1), tmp_path)
    assert f"the label {label!r} ({kind}) holds" in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_numbers_that_float32_cannot_hold(tmp_path, value):
    relations = torch.zeros(4, 2, dtype=torch.float64)
    relations[3, 1] = value
    with pytest.raises(KGToolError, match=r"the embedding of 's' \(inverse_relation\)"):
        export_embeddings(Vocabulary(("a",), ("r", "s")), torch.ones(1, 2), relations, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("entities", "relations", "name"),
    [
        ((3, 4), (2, 4), "entities"),
        ((2,), (2, 4), "entities"),
        ((2, 0), (2, 0), "entities"),
        ((2, 4), (2, 5), "relations"),
        ((2, 4), (1, 4), "relations"),
        ((2, 4), (3, 4), "relations"),
        ((2, 4), (5, 4), "relations"),
        ((2, 4), (2, 4, 1), "relations"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, entities, relations, name):
    vocabulary = Vocabulary(("a", "b"), ("r", "s"))
    with pytest.raises(ValueError, match=f"^{name}: "):
        export_embeddings(vocabulary, torch.zeros(entities), torch.zeros(relations), tmp_path)
    assert not any(tmp_path.iterdir())


def test_out_is_a_file(tmp_path, vocabulary):
    out = tmp_path / "out"
    out.write_text("old")
    with pytest.raises(KGToolError, match=r"out.embeddings\.tsv.* is a file"):
        export_embeddings(vocabulary, torch.ones(len(HARD), 1), torch.ones(3, 1), out)
    assert out.read_text() == "old"


def test_a_failing_write_leaves_every_file_as_it_was(tmp_path, monkeypatch, vocabulary):
    entities, relations = torch.ones(len(HARD), 1), torch.ones(3, 1)
    export_embeddings(vocabulary, entities, relations, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == set(FILES)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KGToolError, match=r"cannot write .*: No space left on device"):
        export_embeddings(vocabulary, 2 * entities, 2 * relations, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_arguments_are_left_alone(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 2), hard_floats(6, 2)
    copies = entities.clone(), relations.clone()
    export_embeddings(vocabulary, entities, relations, tmp_path)
    assert torch.equal(entities, copies[0])
    assert torch.equal(relations, copies[1])
