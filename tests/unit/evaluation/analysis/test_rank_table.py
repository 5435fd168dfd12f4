"""Ranks in files: written, read back with the same numbers, and read from other tools."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.errors import DataError, KGToolError
from kgtool.evaluation.analysis.breakdown import (
    HALF_LINKS,
    breakdown,
    groupings,
    ranked_queries,
)
from kgtool.evaluation.analysis.rank_table import ranks_frame, read_matched, read_ranks
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.storage.tables import load_table, save_table
from tests.support.runs import Table, ring


def awkward() -> KGDataset:
    """The ring, with labels that table readers often change."""
    data = ring()
    labels = ['"quoted', "NA", "null", "1e5", "", " space ", "é", "#", "None", "-", "true", "'"]
    entities = (*labels, *data.vocabulary.entities[len(labels) :])
    return KGDataset("awkward", None, Vocabulary(entities, ("NA", '"', "r")), *data_splits(data))


def data_splits(data: KGDataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return data.train, data.valid, data.test


@pytest.mark.parametrize("ending", ["tsv", "parquet"])
def test_what_is_read_back_gives_the_same_breakdown(tmp_path, ending):
    dataset = awkward()
    n = dataset.num_entities
    scores = torch.rand(n, 6, n, generator=torch.Generator().manual_seed(3)).mul(8).round()
    found = evaluate_model(Table(scores), dataset)
    groups = groupings(dataset, found.queries)
    frame = ranks_frame(found, groups, dataset.vocabulary)
    assert len(frame) == found.counts["queries"]
    place = tmp_path / f"ranks.{ending}"
    save_table(frame, place)
    pd.testing.assert_frame_equal(
        load_table(place).astype(str), frame.astype(str), check_dtype=False
    )
    ours = breakdown(ranked_queries(found), groups)
    theirs = breakdown(*read_ranks(place))
    order = ["by", "group", "side", "filter", "ties", "metric"]
    compared = ["value", "queries"]  # the bootstrap numbers triples in another order
    pd.testing.assert_frame_equal(
        ours.set_index(order)[compared].sort_index(), theirs.set_index(order)[compared].sort_index()
    )
    assert list(theirs["by"].unique()) == list(ours["by"].unique())


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ranks_of_another_tool(tmp_path):
    file = write(
        tmp_path / "theirs.tsv",
        "rank\thead\trelation\ttail\tside\tdomain",
        "1\ta\tr\tb\ttail\tfilm",
        "4\ta\tr\tb\thead\tfilm",
        "2.5\tc\tr\td\ttail\tmusic",
    )
    table = breakdown(*read_ranks(file))
    assert set(table["by"]) == {"all", "relation", "domain"}
    assert set(table["ties"]) == {"realistic"}
    assert set(table["filter"]) == {"filtered"}
    value = table.set_index(["by", "group", "side", "metric"])["value"]
    assert value["all", "all", "both", "mrr"] == pytest.approx((1 + 1 / 4 + 1 / 2.5) / 3)
    assert value["domain", "music", "tail", "mr"] == 2.5
    assert pd.isna(value["all", "all", "both", "amr"])  # how many candidates, it does not say


HEADER = "head\trelation\ttail\tside\trank\tcandidates"


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["head\ttail\trank", "a\tb\t1"], ["no column relation, side", "Remedy"]),
        ([HEADER], ["no ranks"]),
        (
            [HEADER, "a\tr\tb\ttail\t1\t5", "a\tr\tb\tleft\t1\t5"],
            ["line 3", "'left' is not a side"],
        ),
        ([HEADER, "a\tr\tb\ttail\t0\t5"], ["line 2", "'0' is not a valid rank", "at least 1"]),
        ([HEADER, "a\tr\tb\ttail\tnan\t5"], ["line 2", "'nan' is not a valid rank"]),
        ([HEADER, "a\tr\tb\ttail\t\t5"], ["line 2", "'' is not a valid rank"]),
        (
            [HEADER, "a\tr\tb\ttail\t6\t5"],
            ["line 2", "'6' is a rank above the number of candidates"],
        ),
        ([HEADER, "a\tr\tb\ttail\t1\tx"], ["line 2", "'x' is not a valid candidates"]),
        ([HEADER, "a\tr\tb\ttail\t1\t5\t7"], ["line 2", "more cells"]),
        (
            [HEADER, "a\tr\tb\ttail\t1\t5", "a\tr\tb\ttail\t1"],
            ["line 3", "'' is not a valid candidates"],
        ),
        ([HEADER, "a\tr\tb\ttail\t1\t5", "a\tr\tb\ttail\t1\t5\t7"], ["line 3"]),
        ([""], ["not a table"]),
    ],
)
def test_tables_that_are_no_ranks(tmp_path, lines, parts):
    file = write(tmp_path / "ranks.tsv", *lines)
    with pytest.raises(DataError) as caught:
        read_ranks(file)
    for part in (str(file), *parts):
        assert part in str(caught.value)


def test_files_that_are_no_tables(tmp_path):
    for name, content, part in (
        ("empty.tsv", b"", "not a table"),
        ("latin.tsv", b"head\ttail\n\xe9\tb\n", "not a table"),
        ("text.parquet", b"head\ttail\n", "not a Parquet file"),
        ("ranks.csv", b"head,tail\n", "Remedy: use .tsv or .parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=part):
            read_ranks(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_ranks(tmp_path / "gone.tsv")
    with pytest.raises(KGToolError):
        save_table(pd.DataFrame({"a": [1]}), tmp_path / "empty.tsv" / "x.tsv")


def test_a_tab_in_a_label_is_refused_as_tsv_and_kept_as_parquet(tmp_path):
    frame = pd.DataFrame({"head": ["a\tb"], "rank": [1.0]})
    with pytest.raises(DataError, match=r"the head 'a\\tb' has a tab"):
        save_table(frame, tmp_path / "x.tsv")
    assert not (tmp_path / "x.tsv").exists()
    save_table(frame, tmp_path / "x.parquet")
    assert load_table(tmp_path / "x.parquet")["head"].tolist() == ["a\tb"]


def rows_of(seed: int, shuffle: int | None = None) -> pd.DataFrame:
    """Ranks of the ring with random scores; optionally with rows in another order."""
    dataset = awkward()
    n = dataset.num_entities
    scores = torch.rand(n, 6, n, generator=torch.Generator().manual_seed(seed))
    found = evaluate_model(Table(scores), dataset)
    frame = ranks_frame(found, groupings(dataset, found.queries), dataset.vocabulary)
    return frame if shuffle is None else frame.sample(frac=1, random_state=shuffle)


def test_files_are_matched_by_their_queries(tmp_path):
    files = [tmp_path / "one.tsv", tmp_path / "two.parquet", tmp_path / "again.tsv"]
    for file, frame in zip(files, (rows_of(1), rows_of(2, 5), rows_of(1, 6)), strict=True):
        save_table(frame, file)
    (one, two, again), groups = read_matched(files)
    assert set(groups) == {
        "relation", "category", "degree", "distance", "entities", "half_links",
    }  # fmt: skip
    assert groups["half_links"].names == HALF_LINKS
    assert torch.equal(one.ranks["realistic"], again.ranks["realistic"])
    assert torch.equal(one.raw["pessimistic"], again.raw["pessimistic"])
    assert torch.equal(one.triple, again.triple)
    assert torch.equal(one.raw_candidates, two.raw_candidates)
    assert two.ranks["realistic"].tolist() == rows_of(2)["rank"].tolist()


def test_groups_come_from_the_first_file_that_has_them(tmp_path):
    frame = rows_of(1)
    bare = frame[["head", "relation", "tail", "side", "rank"]]
    save_table(bare, tmp_path / "bare.tsv")
    save_table(rows_of(2, 5), tmp_path / "whole.tsv")
    (one, two), groups = read_matched([tmp_path / "bare.tsv", tmp_path / "whole.tsv"])
    degree = groups["degree"]
    assert [degree.names[i] for i in degree.of.tolist()] == frame["degree"].tolist()
    assert bool(one.candidates.isnan().all())  # so that they do not contradict
    assert two.ranks["realistic"].tolist() == rows_of(2)["rank"].tolist()


def test_files_without_half_links_are_read_as_before(tmp_path):
    older = rows_of(1).drop(columns="half_links")
    save_table(older, tmp_path / "older.tsv")
    save_table(rows_of(2), tmp_path / "newer.tsv")
    table = breakdown(*read_ranks(tmp_path / "older.tsv"))
    assert "entities" in set(table["by"])
    assert "half_links" not in set(table["by"])
    _, groups = read_matched([tmp_path / "older.tsv", tmp_path / "newer.tsv"])
    _, newer = read_ranks(tmp_path / "newer.tsv")
    assert torch.equal(groups["half_links"].of, newer["half_links"].of)


@pytest.mark.parametrize(
    ("theirs", "parts"),
    [
        (
            ["a\tr\tb\ttail\t1\t9"],
            ["one.tsv, line 3: the head of (a, r, b) is missing in ", "two.tsv"],
        ),
        (
            ["c\tr\tb\ttail\t1\t9", "a\tr\tb\ttail\t1\t9", "a\tr\tb\thead\t1\t9"],
            [
                "two.tsv, line 2: the tail of (c, r, b)", "is missing in ",
                "one data set and one split",
            ],
        ),
        (
            ["a\tr\tb\ttail\t1\t9", "a\tr\tb\thead\t1\t9", "a\tr\tb\ttail\t2\t9"],
            [
                "two.tsv, line 4: the tail of (a, r, b) occurs twice",
                "Remedy: keep one row per query",
            ],
        ),
        (
            ["a\tr\tb\thead\t1\t8", "a\tr\tb\ttail\t1\t9"],
            ["two.tsv, line 2: the head of (a, r, b) is ranked among 8", "among 9 in ",
             "different protocols"],
        ),
    ],
)  # fmt: skip
def test_files_that_do_not_match(tmp_path, theirs, parts):
    ours = ["a\tr\tb\ttail\t2\t9", "a\tr\tb\thead\t3\t9"]
    one = write(tmp_path / "one.tsv", HEADER, *ours)
    two = write(tmp_path / "two.tsv", HEADER, *theirs)
    with pytest.raises(DataError) as caught:
        read_matched([one, two])
    for part in parts:
        assert part in str(caught.value)


def test_a_query_may_lack_a_group(tmp_path):
    frame = pd.DataFrame(
        {
            "head": ["a", "b", "c"], "relation": "r", "tail": "d", "side": "tail",
            "rank": [1, 2, 4], "degree": [1.5, None, 3.0], "kind": ["x", None, "x"],
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "ranks.parquet")
    queries, groups = read_ranks(tmp_path / "ranks.parquet")
    assert groups["kind"].names == ("missing", "x")
    assert groups["kind"].of.tolist() == [1, 0, 1]
    assert groups["degree"].names == ("1.5", "3.0", "missing")
    breakdown(queries, groups)
    frame.assign(tail=["d", None, "d"]).to_parquet(tmp_path / "ranks.parquet")
    with pytest.raises(DataError, match=r"line 3: .* is not a tail"):
        read_ranks(tmp_path / "ranks.parquet")
    for column in ("kind", "side"):
        bytes_ = frame.assign(**{column: [b"x", b"\xff", b"x"]})
        bytes_.to_parquet(tmp_path / "ranks.parquet")
        with pytest.raises(DataError, match=r"ranks.parquet: a label is not text"):
            read_ranks(tmp_path / "ranks.parquet")
    frame.assign(raw_optimistic=1).to_parquet(tmp_path / "ranks.parquet")
    with pytest.raises(
        DataError, match=r"no column raw\. .* also raw if the file has other raw ranks"
    ):
        read_ranks(tmp_path / "ranks.parquet")
