"""One way to ask: a query by its parts, a list of queries, or a frame; what is missing is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.errors import DataError
from kgtool.inference.predictor import Predictor
from tests.support.runs import all_paths_config, ring, write_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    data = write_folder(ring(), folder / "ring")
    config = all_paths_config(epochs=1)
    return kgtool.train(config, data, folder / "run", progress=False).path


@pytest.fixture(scope="module")
def asked(run: Path) -> Predictor:
    return kgtool.open_predictor(run)


QUERIES = [("e000", "r000", "?"), ("?", "^r001", "e003"), ("e000", "?", "e001")]


def frame_of(*, missing):
    rows = [[missing if part == "?" else part for part in query] for query in QUERIES]
    return pd.DataFrame(rows, columns=["head", "relation", "tail"], dtype=object)


@pytest.mark.parametrize(
    "queries",
    [
        QUERIES,
        [list(query) for query in QUERIES],
        tuple(QUERIES),
        iter(QUERIES),
        np.array(QUERIES),
        [tuple(None if part == "?" else part for part in query) for query in QUERIES],
        frame_of(missing="?"),
        frame_of(missing=None),
        frame_of(missing=float("nan")),
        frame_of(missing=pd.NA),
        frame_of(missing=""),
        frame_of(missing=None)[["tail", "head", "relation"]].assign(note="x"),
        frame_of(missing=None).to_dict("records"),
        [{"s": "e000", "p": "r000"}, {"p": "^r001", "o": "e003"}, {"s": "e000", "o": "e001"}],
    ],
)
def test_queries_come_in_several_forms(asked, queries):
    expected = kgtool.predict(asked, QUERIES, top=4)
    pd.testing.assert_frame_equal(kgtool.predict(asked, queries, top=4), expected)


def test_one_query_comes_by_its_parts(run, asked):
    for query in QUERIES:
        expected = kgtool.predict(asked, [query], top=4)
        head, relation, tail = (None if part == "?" else part for part in query)
        for found in (
            kgtool.predict(asked, *query, top=4),
            kgtool.predict(asked, *query, 4),
            kgtool.predict(asked, head, relation, tail, top=4),
            kgtool.predict(asked, head=head, relation=relation, tail=tail, top=4),
            kgtool.predict(asked, query, top=4),
            kgtool.predict(asked, np.array(query), top=4),
            kgtool.predict(asked, dict(zip("hrt", query, strict=True)), top=4),
            kgtool.predict(asked, pd.Series(query, index=["head", "relation", "tail"]), top=4),
            kgtool.predict(run, *query, top=4),
        ):
            pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(
        kgtool.predict(asked, "e000", "r000", top=4), kgtool.predict(asked, [QUERIES[0]], top=4)
    )
    tails = pd.DataFrame({"subject": ["e000", "e001"], "predicate": ["r000", "r002"]})
    both = [("e000", "r000", "?"), ("e001", "r002", "?")]
    pd.testing.assert_frame_equal(kgtool.predict(asked, tails), kgtool.predict(asked, both))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (("e000", "r000", "e001"), "is not a query with one '[?]'"),
        (("e000",), "'e000' '[?]' '[?]' is not a query"),
        ((), "'[?]' '[?]' '[?]' is not a query"),
        (([("e000", "r000", None)], 5), "other arguments by name, such as top=5"),
        (([("e000", "r000")],), "queries, row 1: 2 values where 3 are expected"),
        ((pd.DataFrame({"head": ["e000"], "how": ["r000"]}),), "do not show head, relation"),
        ((pd.DataFrame({"head": ["e000"]}),), "do not show head, relation and tail"),
        (("e000", 3.5, None), "'3.5' is not a label"),
        ((3, "r000", None), "unknown entity '3'"),
        (((*QUERIES[0][:2], "x"), "r000"), "other arguments by name"),
    ],
)
def test_what_is_not_a_query_is_named(asked, query, message):
    with pytest.raises(DataError, match=message):
        kgtool.predict(asked, *query)


def test_two_labels_on_the_command_line_ask_for_the_tail(run, tmp_path):
    def invoke(*args):
        return CliRunner().invoke(app, ["predict", str(run), *map(str, args)])

    answers = [invoke("e000", "r000", *more) for more in ((), ("?",))]
    assert [each.exit_code for each in answers] == [0, 0]
    assert answers[0].output == answers[1].output
    file = tmp_path / "queries.tsv"
    file.write_text("e000\tr000\t\n\tr001\te003\ne000\tr000\n")
    found = invoke("--queries", file)
    assert found.exit_code == 0, found.output
    assert found.output.count("r000") >= 2
