"""Files of readable labels."""

from __future__ import annotations

import pytest

from kgtool.data.loaders.labels import read_labels
from kgtool.errors import DataError


def test_labels_are_read_as_they_stand(tmp_path):
    file = tmp_path / "labels.tsv"
    file.write_bytes('\ufeffa\tAda, "the first"\r\n\nNA\t1e5\nb\t  Émile\nb\t  Émile'.encode())
    assert read_labels(file) == {"a": 'Ada, "the first"', "NA": "1e5", "b": "  Émile"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"a\tA\nb\n",
            r"labels.tsv, line 2: 'b' is not a label and its name. Remedy: write two cells",
        ),
        (b"a\tA\tB\n", r"line 1: .*Remedy: write two cells"),
        (b"a\t \n", r"line 1: .*is not a label and its name"),
        (b"a\tA\n\na\tB\n", r"line 3: 'a' has another name above. Remedy: keep one"),
        (b"a\t\xff\n", r"labels.tsv: not UTF-8. Remedy: save the file as UTF-8"),
    ],
)
def test_a_fault_names_its_line(tmp_path, data, message):
    file = tmp_path / "labels.tsv"
    file.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_labels(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone.tsv: No such file"):
        read_labels(tmp_path / "gone.tsv")
