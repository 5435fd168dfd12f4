"""The exported embeddings; the tool of each format reads them back."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from gensim.models import KeyedVectors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.format import open_memmap
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

import kgtool
from kgtool.data.dataset import Vocabulary
from kgtool.data.loaders import load_dataset
from kgtool.errors import ConfigError, DataError, KGToolError
from kgtool.export import FORMS, embeddings, export_embeddings, safetensors
from kgtool.training.trainer import train
from tests.support.runs import RING, STEPS, ring, tiny_config, write_folder

HARD = ("NA", "null", "1e5", '"quoted', "", " a b ", "日本 é", "#x", "a,b", "nan", "\ufeffx", "\\t")
KINDS = ("entity", "relation", "inverse_relation")
FILES = [name for form in FORMS.values() for name in form.FILES]

# Labels and `(rows, d)` float32 by kind, as a consumer of the files sees them.
Read = dict[str, tuple[list[str], np.ndarray]]


def by_kind(kinds: list[str], labels: list[str], vectors: np.ndarray) -> Read:
    assert kinds == sorted(kinds, key=KINDS.index)
    rows = {kind: [i for i, one in enumerate(kinds) if one == kind] for kind in KINDS}
    return {kind: ([labels[i] for i in own], vectors[own]) for kind, own in rows.items()}


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path, sep="\t", dtype={"label": str}, keep_default_na=False, quoting=3, encoding="utf-8"
    )


def read_tsv(folder: Path) -> Read:
    table = read_table(folder / "embeddings.tsv").drop(columns="name", errors="ignore")
    assert list(table.columns[:2]) == ["kind", "label"]
    assert list(table.columns[2:]) == [str(i) for i in range(len(table.columns) - 2)]
    vectors = table.iloc[:, 2:].to_numpy(dtype=np.float32)
    return by_kind(table["kind"].tolist(), table["label"].tolist(), vectors)


class Projector:
    """TensorBoard's projector plugin, with the requests of its page."""

    def __init__(self, folder: Path) -> None:
        multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(folder))
        self.plugin = ProjectorPlugin(TBContext(data_provider=provider, logdir=str(folder)))

    def get(self, route: str, **question: str) -> bytes:
        answer = Client(self.plugin.get_plugin_apps()[route]).get("/?" + urlencode(question))
        assert answer.status_code == 200, answer.get_data(as_text=True)
        data: bytes = answer.get_data()
        return data

    def read(self) -> tuple[list[list[str]], np.ndarray]:
        """Read the rows of the metadata, header first, and the vectors."""
        assert json.loads(self.get("/runs")) == ["."]
        (found,) = json.loads(self.get("/info", run="."))["embeddings"]
        shape, name = found["tensorShape"], found["tensorName"]
        vectors = np.frombuffer(self.get("/tensor", run=".", name=name), np.float32).reshape(shape)
        # As the page does: lines that hold something, and a header where the first has a tab.
        lines = self.get("/metadata", run=".", name=name).decode().split("\n")
        rows = [line.split("\t") for line in lines if line.strip()]
        assert len(rows) == len(vectors) + 1
        return rows, vectors


def read_projector(folder: Path) -> Read:
    (header, *rows), vectors = Projector(folder).read()
    assert header == ["label", "kind"]
    labels, kinds = ([row[i] for row in rows] for i in (0, 1))
    return by_kind(kinds, labels, vectors)


def read_word2vec(path: Path) -> tuple[list[str], np.ndarray]:
    """Words and `(count, dim)` float32 vectors; single spaces separate fields."""
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


def read_gensim(path: Path) -> tuple[list[str], np.ndarray]:
    found = KeyedVectors.load_word2vec_format(str(path))
    return found.index_to_key, found.vectors


def read_npy(folder: Path) -> Read:
    found = {}
    for kind in KINDS:
        matrix = np.load(folder / f"{kind}.npy")
        assert matrix.dtype == np.float32
        name = "entities.tsv" if kind == "entity" else "relations.tsv"
        lines = (folder / name).read_bytes().decode().split("\n")[:-1]
        cells = [line.split("\t") for line in lines]
        assert [int(cell[0]) for cell in cells] == list(range(len(cells)))
        labels = [label for _, label in cells]
        assert len(matrix) in (len(labels), 0)
        found[kind] = labels[: len(matrix)], matrix
    return found


def read_parquet(folder: Path) -> Read:
    frame = pd.read_parquet(folder / "embeddings.parquet").drop(columns="name", errors="ignore")
    assert list(frame.columns) == ["kind", "label", "vector"]
    return by_kind(frame["kind"].tolist(), frame["label"].tolist(), np.stack(frame["vector"]))


def read_arrow(folder: Path) -> Read:
    table = pq.read_table(folder / "embeddings.parquet")
    vectors = table["vector"].combine_chunks()
    assert vectors.type == pa.list_(pa.float32(), vectors.type.list_size)
    assert vectors.null_count == vectors.flatten().null_count == 0
    matrix = vectors.flatten().to_numpy().reshape(len(vectors), -1)
    return by_kind(table["kind"].to_pylist(), table["label"].to_pylist(), matrix)


def read_safetensors(folder: Path) -> Read:
    names = ("entities", "relations", "inverse_relations")
    with safe_open(folder / "embeddings.safetensors", framework="np") as file:
        assert sorted(file.keys()) == sorted(names)
        tensors = [file.get_tensor(name) for name in names]
        labels = [json.loads(file.metadata()[name]) for name in names[:2]]
    assert all(tensor.dtype == np.float32 for tensor in tensors)
    labels.append(labels[1] if len(tensors[2]) else [])
    return dict(zip(KINDS, zip(labels, tensors, strict=True), strict=True))


READERS: dict[str, Callable[[Path], Read]] = {
    "tsv": read_tsv,
    "projector": read_projector,
    "npy": read_npy,
    "parquet": read_parquet,
    "parquet as Arrow": read_arrow,
    "safetensors": read_safetensors,
}


def bits(vectors: np.ndarray | torch.Tensor) -> list[list[int]]:
    """The float32 numbers as integers, so that 0.0 and -0.0 differ."""
    floats = np.ascontiguousarray(np.asarray(vectors, dtype=np.float32))
    integers: list[list[int]] = floats.view(np.uint32).tolist()
    return integers


def hard_floats(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    """`(rows, dim)` float32: random finite bit patterns; the first are the limits of the range."""
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


def same(read: Read, vocabulary: Vocabulary, entities: torch.Tensor, relations: torch.Tensor):
    """Assert that labels and vectors equal the exported ones, bit for bit."""
    count = len(vocabulary.relations)
    vectors = (entities, relations[:count], relations[count:])
    names = (vocabulary.entities, vocabulary.relations, vocabulary.relations)
    assert list(read) == list(KINDS)
    for (labels, matrix), wanted, own in zip(read.values(), vectors, names, strict=True):
        assert labels == list(own[: len(wanted)])
        assert matrix.shape == wanted.shape
        assert bits(matrix) == bits(wanted)


@pytest.fixture(params=[2**20, 20], ids=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("reader", READERS)
def test_every_form_reads_back_bit_by_bit(tmp_path, vocabulary, reader):
    entities, relations = hard_floats(len(HARD), 7), hard_floats(6, 7, seed=1)
    folder = tmp_path / "new" / "out"
    export_embeddings(vocabulary, entities, relations, folder)
    same(READERS[reader](folder), vocabulary, entities, relations)


@pytest.mark.parametrize("reader", [r for r in READERS if r != "projector"])
def test_relations_without_inverses(tmp_path, vocabulary, reader):
    export_embeddings(vocabulary, torch.ones(len(HARD), 2), torch.zeros(3, 2), tmp_path)
    same(READERS[reader](tmp_path), vocabulary, torch.ones(len(HARD), 2), torch.zeros(3, 2))


def test_many_bit_patterns_read_back(tmp_path):
    vocabulary = Vocabulary(tuple(map(str, range(1100))), ("r",))
    entities, relations = hard_floats(1100, 20), torch.zeros(2, 20)
    export_embeddings(vocabulary, entities, relations, tmp_path)
    for reader in READERS.values():
        same(reader(tmp_path), vocabulary, entities, relations)
    words, vectors = read_word2vec(tmp_path / "entities.word2vec.txt")
    assert words == list(vocabulary.entities)
    assert bits(vectors) == bits(entities)


def test_a_column_of_minus_zeros_and_whole_numbers_stays_floating(tmp_path):
    entities = torch.tensor([[-0.0, 3.0], [-0.0, 1e8]])
    export_embeddings(Vocabulary(("a", "b"), ()), entities, torch.zeros(0, 2), tmp_path)
    table = read_table(tmp_path / "embeddings.tsv")
    assert table[["0", "1"]].dtypes.tolist() == [np.float64, np.float64]
    assert bits(table[["0", "1"]].to_numpy()) == bits(entities)


def test_forms_are_chosen(tmp_path, vocabulary):
    arguments = vocabulary, torch.ones(len(HARD), 2), torch.ones(6, 2)
    paths = export_embeddings(*arguments, tmp_path / "all")
    assert paths == [tmp_path / "all" / name for name in FILES]
    assert sorted(paths) == sorted((tmp_path / "all").iterdir())
    for form in FORMS:
        paths = export_embeddings(*arguments, tmp_path / form, [form, form])
        assert [path.name for path in paths] == list(FORMS[form].FILES)
        assert sorted(paths) == sorted((tmp_path / form).iterdir())
        for path in paths:
            assert path.read_bytes() == (tmp_path / "all" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        (["npz"], "unknown export format 'npz'. Remedy: did you mean npy?"),
        (
            ["tsv", "?"],
            "unknown export format '?'. Remedy: use one of tsv, projector, word2vec, npy, ",
        ),
        ([], "no export format. Remedy: use one of tsv, "),
    ],
)
def test_unknown_forms(tmp_path, vocabulary, forms, message):
    with pytest.raises(ConfigError) as caught:
        export_embeddings(vocabulary, torch.ones(12, 2), torch.ones(6, 2), tmp_path / "x", forms)
    assert str(caught.value).startswith(message)
    assert not any(tmp_path.iterdir())


def test_readable_names_stand_next_to_labels(tmp_path):
    vocabulary = Vocabulary(("Q64", "Q1", "NA"), ("P36",))
    names = {"Q64": "Berlin \N{BEER MUG}", "P36": "capital", "Q1": "a\rb", "unknown": "x"}
    entities, relations = hard_floats(3, 2), hard_floats(2, 2, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path, names=names)
    rows, vectors = Projector(tmp_path).read()
    assert rows == [
        ["name", "label", "kind"],
        ["Berlin \N{BEER MUG}", "Q64", "entity"],
        ["a\N{REPLACEMENT CHARACTER}b", "Q1", "entity"],
        ["NA", "NA", "entity"],
        ["capital", "P36", "relation"],
        ["^capital", "P36", "inverse_relation"],
    ]
    assert bits(vectors) == bits(torch.cat([entities, relations]))
    for form in set(READERS) - {"projector"}:  # an id stays an id
        same(READERS[form](tmp_path), vocabulary, entities, relations)
    for table in (
        read_table(tmp_path / "embeddings.tsv"),
        pd.read_parquet(tmp_path / "embeddings.parquet"),
    ):
        assert list(table.columns[:3]) == ["kind", "label", "name"]
        assert table[["name", "label", "kind"]].to_numpy().tolist() == rows[1:]
    with pytest.raises(ConfigError, match="add one of them"):
        export_embeddings(vocabulary, entities, relations, tmp_path, ["npy"], names=names)


@pytest.mark.usefixtures("_blocks")
def test_word2vec(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 3), hard_floats(6, 3, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path, ["word2vec"])
    for read in (read_word2vec, read_gensim):
        words, vectors = read(tmp_path / "entities.word2vec.txt")
        assert words[:7] == ["NA", "null", "1e5", '"quoted', "_", "_a_b_", "日本_é"]
        assert words[7:] == list(HARD[7:])
        assert bits(vectors) == bits(entities)
        words, vectors = read(tmp_path / "relations.word2vec.txt")
        assert words == ["r_1", "NA", "_", "r_1_inverse", "NA_inverse", "__inverse"]
        assert bits(vectors) == bits(relations)


def test_npy_maps_into_memory(tmp_path, vocabulary):
    entities = hard_floats(len(HARD), 3)
    export_embeddings(vocabulary, entities, torch.ones(6, 3), tmp_path, ["npy"])
    assert bits(open_memmap(tmp_path / "entity.npy", mode="r")) == bits(entities)


def test_safetensors_as_torch_tensors(tmp_path, vocabulary):
    entities, relations = hard_floats(len(HARD), 3), hard_floats(6, 3, seed=1)
    export_embeddings(vocabulary, entities, relations, tmp_path, ["safetensors"])
    path = tmp_path / "embeddings.safetensors"
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0  # tensors mapped are aligned
    tensors = load_file(path)
    both = torch.cat([tensors["relations"], tensors["inverse_relations"]])
    assert bits(tensors["entities"]) == bits(entities)
    assert bits(both) == bits(relations)


def test_more_labels_than_a_header_of_safetensors_holds(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setattr(safetensors, "_LONGEST_HEADER", 200)
    with pytest.raises(KGToolError, match="Remedy: choose other formats"):
        export_embeddings(vocabulary, torch.ones(12, 2), torch.ones(6, 2), tmp_path / "x")
    assert not list(tmp_path.rglob("*.*"))


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


def loadable(text: str) -> str:
    """A label that triple files can contain: not blank, without byte order marks."""
    text = text.replace("\ufeff", "")
    return text if text.strip() else text + "x"


LOADED = (TEXT | CLOSE | st.sampled_from(HARD)).map(loadable)


@settings(deadline=None, max_examples=30)  # each example waits for the disk
@given(st.lists(TEXT | CLOSE, unique=True, min_size=1, max_size=12))
@example(["\0", "\x1c\x1d\x1e\x85\u2028", "\x1a", "a\0b"])
def test_any_labels_read_back(labels):
    entities, vocabulary = hard_floats(len(labels), 2), Vocabulary(tuple(labels), ("r",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_embeddings(vocabulary, entities, torch.ones(2, 2), folder)
        for reader in READERS.values():
            same(reader(folder), vocabulary, entities, torch.ones(2, 2))
        words, numbers = read_word2vec(folder / "entities.word2vec.txt")
        assert read_gensim(folder / "entities.word2vec.txt")[0] == words
    assert bits(numbers) == bits(entities)
    assert len(set(words)) == len(labels)
    plain = [label for label in labels if label and not any(map(str.isspace, label))]
    assert [words[labels.index(label)] for label in plain] == plain


@settings(deadline=None, max_examples=8)
@given(
    st.lists(LOADED, unique=True, min_size=RING, max_size=RING),
    st.lists(LOADED, unique=True, min_size=len(STEPS), max_size=len(STEPS)),
)
def test_from_labels_through_training_to_every_form(entities, relations):
    dataset = replace(ring(), vocabulary=Vocabulary(tuple(entities), tuple(relations)))
    with tempfile.TemporaryDirectory() as name:
        data = load_dataset(write_folder(dataset, Path(name) / "data"))
        run = train(tiny_config(epochs=1, batch_size=256), data, Path(name) / "run", progress=False)
        folder = Path(name) / "out"
        kgtool.export(run.path, folder)
        scorer = run.model(data).scorer()
        states, relations = scorer.entity_states(), scorer.relation_states()
        assert set(data.vocabulary.entities) == set(entities)
        for reader in READERS.values():
            same(reader(folder), data.vocabulary, states, relations)
        words, vectors = read_gensim(folder / "relations.word2vec.txt")
        assert len(words) == 2 * len(STEPS)
        assert bits(vectors) == bits(relations)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_written_as_float32(tmp_path, dtype):
    entities = torch.tensor([[1 / 3, -1e-3]], dtype=torch.float64).to(dtype).requires_grad_()
    export_embeddings(Vocabulary(("a",), ()), entities, torch.ones(0, 2), tmp_path)
    read = read_table(tmp_path / "embeddings.tsv")[["0", "1"]].to_numpy()
    assert bits(read) == bits(entities.detach().float())


@pytest.mark.parametrize("label", ["a\tb", "a\nb", "a\r", "\ud800"])
@pytest.mark.parametrize("kind", ["entity", "relation"])
def test_a_label_that_a_tsv_cannot_hold(tmp_path, label, kind):
    labels = (("x", label), ("r",)) if kind == "entity" else (("x", "y"), (label,))
    with pytest.raises(DataError) as caught:
        export_embeddings(Vocabulary(*labels), torch.ones(2, 1), torch.ones(1, 1), tmp_path)
    assert f"the label {label!r} ({kind}) has" in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_numbers_that_float32_cannot_hold(tmp_path, value):
    relations = torch.zeros(4, 2, dtype=torch.float64)
    relations[3, 1] = value
    with pytest.raises(KGToolError, match=r"the embedding of 's' \(inverse_relation\)"):
        export_embeddings(Vocabulary(("a",), ("r", "s")), torch.ones(1, 2), relations, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_bad_number_far_down_is_named(tmp_path):
    entities = torch.ones(1100, 2)
    entities[1050, 1] = float("nan")
    vocabulary = Vocabulary(tuple(map(str, range(1100))), ())
    with pytest.raises(KGToolError, match=r"the embedding of '1050' \(entity\)"):
        export_embeddings(vocabulary, entities, torch.ones(0, 2), tmp_path)


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
