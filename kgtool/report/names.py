"""Readable names of entities and relations in the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# Control characters and lone surrogates, which HTML cannot show.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Names:
    """Maps labels to readable names.

    Attributes:
        labels: label → readable name; other labels are shown themselves.
    """

    labels: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, label: str) -> str:
        """The text for a label; the inverse `^r` is shown as `^` and the name of `r`."""
        if label not in self.labels and label.startswith("^") and label[1:] in self.labels:
            return "^" + clean(self.labels[label[1:]])
        return clean(self.labels.get(label, label))


def clean(label: str) -> str:
    """The label with `�` for each character that HTML cannot show."""
    return _UNFIT.sub("�", label)
