"""Finds labels that differ only in blanks, Unicode form or case, and merges them.

Blanks are spaces of any kind, such as non-breaking ones, and characters without width. The Unicode
forms of `é` are one character (NFC) and two (NFD). Labels are exact, so such labels are different
entities or relations, which is seldom meant; case may matter, as in names of genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kgtool.data.dataset import Vocabulary
from kgtool.data.loaders.reading import MERGING
from kgtool.data.loaders.report import MOST_EXAMPLES, NearEqual
from kgtool.data.loaders.rows import Rows

Ints = NDArray[np.int64]
_NO_WIDTH = r"[\x{200b}\x{2060}\x{feff}\x{ad}]"
_BLANKS = r"[\s\p{Z}]+"


def keys_of(labels: Sequence[str], by: str) -> pa.Array:
    """A key of each label: labels with one key differ only as `by` of `MERGING` says."""
    keys = pa.array(labels, pa.large_string())
    level = MERGING.index(by)
    is_ascii = pc.all(pc.string_is_ascii(keys)).as_py()  # then the quick ways do
    if not is_ascii:
        keys = pc.replace_substring_regex(keys, _NO_WIDTH, "")
    if pc.any(pc.match_substring_regex(keys, _BLANKS)).as_py():
        keys = pc.utf8_trim_whitespace(pc.replace_substring_regex(keys, _BLANKS, " "))
    if level >= MERGING.index("unicode") and not is_ascii:
        keys = pc.utf8_normalize(keys, form="NFC")
    if level >= MERGING.index("case"):
        keys = pc.ascii_lower(keys) if is_ascii else pc.utf8_lower(keys)
    return keys


def near_equal(labels: Sequence[str], counts: Ints, kind: str) -> tuple[NearEqual, ...]:
    """The groups of labels that differ only in blanks, in Unicode form, or in case.

    Args:
        labels: distinct labels.
        counts: `(n,)`, the number of triples of each; labels without triples are left out.
        kind: `"entity"` or `"relation"`.
    """
    occurring = np.flatnonzero(counts)
    labels, counts = [labels[i] for i in occurring.tolist()], counts[occurring]
    # only labels with a common key at the last level can have one at an earlier level
    number = keys_of(labels, MERGING[-1]).dictionary_encode().indices.to_numpy()
    several = np.flatnonzero(np.bincount(number)[number] > 1) if len(labels) else number
    if not len(several):
        return ()
    labels, counts = [labels[i] for i in several.tolist()], counts[several]
    found = []
    before: Sequence[str] = labels
    for by in MERGING:
        keys = keys_of(labels, by).to_pylist()
        table = pd.DataFrame({"label": labels, "count": counts, "before": before, "key": keys})
        sizes = table.groupby("key", sort=False)["before"].nunique()
        groups = table[table["key"].isin(sizes.index[sizes > 1])].groupby("key", sort=False)
        totals = groups["count"].sum().sort_values(ascending=False, kind="stable")
        first = []
        for key in totals.index[:MOST_EXAMPLES]:
            rows = groups.get_group(key).sort_values("count", ascending=False, kind="stable")
            first.append(tuple(zip(rows["label"], rows["count"].tolist(), strict=True)))
        if len(totals):
            found.append(NearEqual(kind, by, len(totals), tuple(first)))
        before = keys
    return tuple(found)


def near_equal_of(triples: Ints, vocabulary: Vocabulary) -> tuple[NearEqual, ...]:
    """`near_equal` for the entities and the relations of triples `(n, 3)`."""
    entities = np.bincount(triples[:, ::2].reshape(-1), minlength=len(vocabulary.entities))
    relations = np.bincount(triples[:, 1], minlength=len(vocabulary.relations))
    return near_equal(vocabulary.entities, entities, "entity") + near_equal(
        vocabulary.relations, relations, "relation"
    )


def merged(parts: Sequence[Rows], by: str) -> tuple[list[Rows], tuple[str, ...]]:
    """The rows with labels merged: each becomes the most frequent of those near-equal to it.

    Args:
        parts: the rows of all files.
        by: one of `MERGING`.

    Returns:
        The rows, and a note on the number of merged labels, if there are any.
    """
    entities = _merging(parts, (0, 2), by)
    relations = _merging(parts, (1,), by)
    new = [_replaced(rows, entities, relations) for rows in parts]
    counts = {"entity": len(entities), "relation": len(relations)}
    plural = {"entity": "entities", "relation": "relations"}
    notes = tuple(
        f"{count:,} {kind if count == 1 else plural[kind]} merged with near-equal ones"
        for kind, count in counts.items()
        if count
    )
    return new, notes


def merged_into(rows: Rows, vocabulary: Vocabulary, by: str) -> Rows:
    """The rows with the vocabulary's labels for those that are near-equal to one of them."""
    maps = []
    for known in (vocabulary.entities, vocabulary.relations):
        own = dict(zip(keys_of(known, by).to_pylist(), known, strict=True))
        labels = rows.labels.to_pylist()
        keys = keys_of(labels, by).to_pylist()
        maps.append({label: own.get(key, label) for label, key in zip(labels, keys, strict=True)})
    return _replaced(rows, *maps)


def _merging(parts: Sequence[Rows], columns: tuple[int, ...], by: str) -> dict[str, str]:
    """Label → the label that replaces it."""
    frames = []
    for rows in parts:
        counts = np.bincount(rows.codes[:, columns].reshape(-1), minlength=len(rows.labels))
        frames.append(pd.DataFrame({"label": rows.labels.to_pylist(), "count": counts}))
    table = pd.concat(frames).groupby("label")["count"].sum()
    table = table[table > 0].reset_index()
    table["key"] = keys_of(table["label"].tolist(), by).to_pylist()
    table = table.sort_values(["count", "label"], ascending=[False, True])
    best = table.groupby("key", sort=False)["label"].transform("first")
    changed = (best != table["label"]).to_numpy()
    return dict(zip(table["label"][changed], best[changed], strict=True))


def _replaced(rows: Rows, entities: dict[str, str], relations: dict[str, str]) -> Rows:
    labels = rows.labels.to_pylist()
    texts = [[mapping.get(label, label) for label in labels] for mapping in (entities, relations)]
    encoded = pa.array(texts[0] + texts[1], pa.large_string()).dictionary_encode()
    number = encoded.indices.to_numpy()
    codes = number[rows.codes + np.array([0, len(labels), 0])]
    used = np.unique(codes)
    return replace(
        rows,
        codes=np.searchsorted(used, codes).astype(np.int32),
        labels=encoded.dictionary.take(pa.array(used)),
    )
