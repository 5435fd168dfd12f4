"""Runs with pages for the tests, and a parser of pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from kgtool.api.evaluate import evaluate
from kgtool.config import Config
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.runs.run import Run
from kgtool.training.trainer import train
from tests.support.runs import ring, write_folder

NASTY = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><b onmouseover="alert(1)">',
    "{{ 7 * 7 }}",
    "$x_1^{2}$ costs $5",
    "&amp;",
    "漢字の長い名前がここに立つ漢字の長い名前がここに立つ",
    "\u202egnp.exe",
    "\x01control",
    "a_very_long_label_without_any_place_to_break_it_" * 3,
)
VOID = {"meta", "link", "img", "br", "hr", "input"}
SECTIONS = (
    "trust",
    "set-up",
    "learning",
    "metrics",
    "tasks",
    "breakdowns",
    "relations",
    "ranks",
    "calibration",
    "predictions",
    "map",
)


def nasty_ring() -> KGDataset:
    """The ring, with untrusted labels."""
    data = ring()
    entities = (*NASTY, *data.vocabulary.entities[len(NASTY) :])
    labels = Vocabulary(entities, ("<i>r</i>", "$r^2$", "r_3/" * 20))
    return KGDataset("ring <b>", None, labels, data.train, data.valid, data.test)


def evaluated(folder: Path, dataset: KGDataset, config: Config) -> Run:
    """A run in `folder/run`, trained and evaluated on test, with its data in `folder/data`."""
    data = write_folder(dataset, folder / "data")
    settings = config.model_copy(update={"data": str(data)})
    run = Run.open(train(settings, _loaded(data), folder / "run", progress=False).path)
    evaluate(run)
    return run


def _loaded(data: Path) -> KGDataset:
    from kgtool.data.loaders import load_dataset

    return load_dataset(data)


class Page(HTMLParser):
    """The content of a page; parsing fails if a closing tag has no opening tag.

    Attributes:
        tags: all tags with their attributes.
        tables: the rows of cells of each table with an `aria-label`.
        text: all text outside `style`.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] | None = None
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("aria-label") or "", [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows:
            self._rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, self.getpos()
        if tag == "table":
            self._rows = None

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text += data
        if self._rows and {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [
            value or "" for _, attrs in self.tags for k, value in attrs.items() if k == attribute
        ]
