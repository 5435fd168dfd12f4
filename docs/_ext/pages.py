"""A Sphinx extension: fills in the generated parts of pages, and adapts links for the site.

A page may hold these two comments, each on a line of its own:

    <!-- generated: NAME -->     the text of `docs._ext.reference.GENERATED[NAME]`
    <!-- include: FILE -->       a Markdown file of the repository, such as CHANGELOG.md

Links are written for readers of the repository: relative paths to files. On the site, a link to a
file that a page includes leads to that page, and a link to any other file outside of `docs/` to the
repository on the web.

A picture `NAME-light.png` is shown in the light style; the dark style has `NAME-dark.png`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from docs._ext.reference import GENERATED

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
REPOSITORY = "https://github.com/kgtool/kgtool/blob/main/"
_GENERATED = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.M)
_INCLUDED = re.compile(r"^<!-- include: (\S+) -->$", re.M)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_LIGHT = re.compile(r"^(!\[[^\]]+\]\(\S+)-light\.png\)$", re.M)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension to Sphinx."""
    places = included()

    def read(_: Sphinx, name: str, source: list[str]) -> None:
        source[0] = filled(source[0], DOCS / f"{name}.md", places)

    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def pages() -> Iterator[Path]:
    """The pages of the site."""
    return (page for page in sorted(DOCS.rglob("*.md")) if "_ext" not in page.parts)


def included() -> dict[str, str]:
    """Each file that a page includes, by its path in the repository, and the page's path."""
    return {
        file: page.relative_to(ROOT).as_posix()
        for page in pages()
        for file in _INCLUDED.findall(page.read_text(encoding="utf-8"))
    }


def filled(text: str, page: Path, places: dict[str, str]) -> str:
    """The text of a page with its generated and included parts.

    Args:
        text: the text in the file.
        page: the file.
        places: the pages of included files, see `included`.

    Raises:
        FileNotFoundError: for a link to a file that does not exist.
    """
    text = adapted(text, page, places)
    text = _GENERATED.sub(lambda found: GENERATED[found[1]](), text)
    return _INCLUDED.sub(
        lambda found: adapted(_body(ROOT / found[1]), ROOT / found[1], places), text
    )


def adapted(text: str, file: Path, places: dict[str, str]) -> str:
    """A text with its links and pictures as the site has them.

    Args:
        text: the text.
        file: the file that holds it, in the repository.
        places: as in `filled`.

    Raises:
        FileNotFoundError: for a link to a file that does not exist.
    """

    def adapt(found: re.Match[str]) -> str:
        target, sharp, anchor = found[2].partition("#")
        if not target or ":" in target:
            return found[0]
        path = os.path.normpath(file.relative_to(ROOT).parent / target)
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{file}: a link to {target}, which does not exist")
        path = PurePosixPath(places.get(path, path)).as_posix()
        if not path.startswith("docs/"):
            return f"{found[1]}{REPOSITORY}{path}{sharp}{anchor}{found[3]}"
        path = path.removeprefix("docs").replace(".ipynb", ".md")
        return f"{found[1]}{path}{sharp}{anchor}{found[3]}"

    both = r"\1-light.png){.only-light}\n\1-dark.png){.only-dark}"
    return _LINK.sub(adapt, _LIGHT.sub(both, text))


def _body(file: Path) -> str:
    """A file's text without its first heading: the page has its own."""
    text = file.read_text(encoding="utf-8")
    return re.sub(r"\A# .*\n", "", text) if file.suffix == ".md" else f"```text\n{text}```\n"
