"""How the page names entities and relations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# Characters of control, and halves of surrogate pairs: no page can show them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Names:
    """What people read for the labels of a graph.

    Attributes:
        labels: a readable label for some of them; the others stand for themselves.
    """

    labels: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, label: str) -> str:
        """What to show for a label; `^r`, the inverse of the relation r, keeps its `^`."""
        if label not in self.labels and label.startswith("^") and label[1:] in self.labels:
            return "^" + clean(self.labels[label[1:]])
        return clean(self.labels.get(label, label))


def clean(label: str) -> str:
    """The label with `�` for what no page can show."""
    return _UNFIT.sub("�", label)
