"""The blocks of commands and of Python in the pages, each with its mark.

A comment of HTML says how a block is tested. Directly above a block it holds for that block, with
`page` for all other blocks of the page:

    <!-- run by tests/integration/test_guides.py -->        the test runs the block
    <!-- page run by tests/integration/test_tour.py -->     the test runs all other blocks
    <!-- not run: needs a GPU -->                           the reason
    <!-- page not run: hours of training -->

A test takes the blocks that it runs from here, by its own name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.support.places import ROOT

FOLDERS = ("docs", "benchmarks", "datasets", "kgtool/pretrained")
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")]
)
SHELL, PYTHON, TOML = "sh", "python", "toml"
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S* )*(?:kgtool|torchrun|tensorboard|python|pip|git|cat|echo|printf|curl|\."
    r"|\S*(?:scripts|bin)/\S+) "
)
_MARK = re.compile(r"<!-- (page )?(run by|not run:) (.+?) -->\s*")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        page: the path of the page in the repository.
        line: its first line.
        kind: `SHELL`, `PYTHON` or `TOML`.
        text: its content.
        run_by: the file of the test that runs it, or "".
        reason: why no test runs it, or "".
    """

    page: str
    line: int
    kind: str
    text: str
    run_by: str
    reason: str

    @property
    def lines(self) -> list[str]:
        """The command lines, each in one line."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line for line in joined.splitlines() if line.strip()]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    default: dict[str, str] = {}
    for token in tokens:
        if token.type == "html_block" and (found := _MARK.fullmatch(token.content)) and found[1]:
            default = {found[2]: found[3]}
    result = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        kind = token.info if token.type == "fence" else SHELL
        if token.type == "code_block" and not _PROGRAM.match(token.content + " "):
            continue  # a formula, or an output
        if token.type not in ("fence", "code_block") or kind not in (SHELL, PYTHON, TOML):
            continue
        above = _MARK.fullmatch(before.content) if before else None
        mark = {above[2]: above[3]} if above and not above[1] else default
        where = page.relative_to(ROOT).as_posix(), (token.map or [0])[0] + 1
        marks = mark.get("run by", ""), mark.get("not run:", "")
        result.append(Block(*where, kind, token.content, *marks))
    return result


def run_by(test: str | Path, page: str, kind: str = SHELL) -> list[Block]:
    """The blocks of a page that a test runs.

    Args:
        test: the file of the test.
        page: the path of the page in the repository.
        kind: the kind of the blocks.
    """
    name = Path(test).relative_to(ROOT).as_posix()
    return [each for each in blocks(ROOT / page) if each.run_by == name and each.kind == kind]


def lines_run_by(test: str | Path, page: str) -> list[str]:
    """The command lines of a page that a test runs, in their order."""
    return [line for block in run_by(test, page) for line in block.lines]
