"""Makes vectors of entities from their names, offline, for `encoder.features`.

    python scripts/text_features.py DATA [OTHER ...] --out features.npy

The vector of a name is that of its character n-grams: hashed, weighted by TF-IDF, and reduced by a
truncated SVD (latent semantic analysis). TF-IDF and SVD are fitted on the names of the first data
set alone, so other data sets get vectors as a new entity would. The name of an entity is its label,
or the name in a table given by --labels. FILE.txt next to FILE.npy has the labels of the rows.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

import kgtool
from kgtool.data.loaders.labels import read_labels


def vectors_of(names: Sequence[str], first: int, dim: int, seed: int = 0) -> np.ndarray:
    """`(n, dim)` float32 vectors of names; the first ones fit the transformation."""
    model = make_pipeline(
        HashingVectorizer(
            analyzer="char_wb",
            ngram_range=(2, 5),
            n_features=2**18,
            norm=None,
            alternate_sign=False,
        ),
        TfidfTransformer(sublinear_tf=True),
        TruncatedSVD(min(dim, first - 1), random_state=seed),
    )
    spaced = [re.sub(r"[\W_]+", " ", name) for name in names]
    model.fit(spaced[:first])
    return model.transform(spaced).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="data sets; the first one fits the vectors")
    parser.add_argument("--out", type=Path, required=True, help="the .npy file to write")
    parser.add_argument("--labels", help="table of labels and names")
    parser.add_argument("--dim", type=int, default=128, help="width of the vectors")
    given = parser.parse_args(arguments)
    names = read_labels(given.labels) if given.labels else {}
    sets = [kgtool.load_dataset(place).vocabulary.entities for place in given.data]
    labels = list(dict.fromkeys(label for entities in sets for label in entities))
    texts = [names.get(label, label) for label in labels]
    vectors = vectors_of(texts, len(sets[0]), given.dim)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.save(given.out, vectors)
    given.out.with_suffix(".txt").write_text("".join(f"{label}\n" for label in labels))
    print(f"{len(labels):,} vectors of {vectors.shape[1]} numbers in {given.out}")


if __name__ == "__main__":
    main()
