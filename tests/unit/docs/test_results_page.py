"""Each figure of the pages of results has its command and its commit; peers have a source."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

import pytest

from scripts import results
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "results" / "results.md"
BENCHMARKS = ROOT / "benchmarks" / "README.md"
NOTES = ROOT / "docs" / "about" / "design-notes.md"
HASH = r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7}\b"
COMMAND = re.compile(
    r"(?:^    |`)(?:\.venv/bin/)?(?:python (?:scripts/|-m )|kgtool (?:train|evaluate) )", re.M
)


@dataclass(frozen=True)
class Table:
    """A Markdown table: the text of its section before it, its columns and rows."""

    before: str
    columns: list[str]
    rows: list[list[str]]

    @property
    def paragraph(self) -> str:
        """The last paragraph before the table."""
        return self.before.strip().rsplit("\n\n", 1)[-1]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[Table]:
    """The tables of a page, in order."""
    found = []
    for section in re.split(r"^(?=##+ )", text, flags=re.M):
        for block in re.finditer(r"(?:^\|.*\n)+", section, re.M):
            header, _, *rows = block[0].splitlines()
            found.append(
                Table(section[: block.start()], cells(header), [cells(row) for row in rows])
            )
    return found


SUMMARY, *TABLES = tables(PAGE.read_text(encoding="utf-8"))
PEERS = [table for table in TABLES if table.paragraph.startswith("**Published.**")]
OURS = [table for table in TABLES if table not in PEERS]


def name(table: Table) -> str:
    return re.sub(r"\W+", "-", "-".join(table.rows[0][:2]))


@pytest.mark.parametrize("table", OURS, ids=name)
def test_each_row_has_its_commit_and_its_section_a_command(table):
    assert table.columns[-1] == "commit"
    for commit in table.column("commit"):
        assert re.fullmatch(rf"{HASH}(, {HASH})*", commit)
    assert COMMAND.search(table.before), "the section names no command before the table"
    assert all(all(row[:1]) for row in table.rows), "a row without its data set"


@pytest.mark.parametrize("table", PEERS, ids=name)
def test_published_figures_have_a_source(table):
    if "source" in table.columns:
        assert all(table.column("source"))
    else:
        assert re.search(r"\bet al\. \d{4}", table.paragraph)


def test_the_page_has_tables_of_both_kinds():
    assert len(OURS) > 4
    assert len(PEERS) > 1


def test_the_first_table_is_short_and_repeats_the_tables_below():
    assert 4 <= len(SUMMARY.rows) <= 6
    for mrr, preset in zip(SUMMARY.column("MRR"), SUMMARY.column("preset"), strict=True):
        assert any(
            mrr in row and (preset in row or preset in table.before)
            for table in OURS
            for row in table.rows
        ), f"{preset}, MRR {mrr}: in no table below"
    published = " ".join(SUMMARY.column("published"))
    for figure in re.findall(r"\b0\.\d+", published):
        assert any(figure in row for table in PEERS for row in table.rows), figure


def test_presets_are_those_of_today():
    text = PAGE.read_text(encoding="utf-8")
    presets = {file.stem for file in (ROOT / "configs").glob("*.toml")}
    for table in (SUMMARY, *OURS):
        if "preset" in table.columns:
            assert {cell.strip("`") for cell in table.column("preset")} <= presets
    rows = {(row.keywords["model"].preset, row.func) for row in results.TABLES["links"].rows}
    for preset, _ in rows:
        assert f"| `{preset}` |" in text, f"{preset} has a row in the script and none in the page"


def test_rows_of_several_seeds_have_a_deviation():
    for table in OURS:
        if "seeds" in table.columns:
            for row, seeds in zip(table.rows, table.column("seeds"), strict=True):
                mrr = row[table.columns.index("MRR")]
                assert ("±" in mrr) == (int(seeds) > 1), row


def test_each_section_of_the_benchmarks_has_command_and_commit():
    text = BENCHMARKS.read_text(encoding="utf-8")
    _, *sections = re.split(r"^### ", text, flags=re.M)
    assert len(sections) > 5
    for section in sections:
        assert re.search(r"^    python -m benchmarks\.", section, re.M), section[:60]
        assert re.search(rf"^Commits? {HASH}|[. ]Commit {HASH}", section, re.M), section[:60]


def test_commits_are_those_of_the_history():
    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )

    shallow = git("rev-parse", "--is-shallow-repository")
    if shallow.returncode or shallow.stdout.strip() != "false":
        pytest.skip("no whole git history here")
    pages = (PAGE, ROOT / "docs" / "results" / "scale.md", BENCHMARKS, NOTES)
    named = {
        commit for page in pages for commit in re.findall(HASH, page.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    if all(git("cat-file", "-e", commit).returncode for commit in named):
        pytest.skip("another git history")
    for commit in sorted(named):
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, commit
