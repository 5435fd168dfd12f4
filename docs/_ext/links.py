"""Checks that every local link of a built site leads to a file and an anchor that exist.

python docs/_ext/links.py site
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the anchors that links may lead to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the links and the anchor of a tag."""
        found = dict(attrs)
        self.links += [found[key] or "" for key in ("href", "src") if key in found]
        self.anchors |= {found[key] or "" for key in ("id", "name") if key in found}


def dead_links(site: Path) -> list[str]:
    """A line for each local link that leads nowhere."""
    pages = {file.resolve(): Page(file) for file in sorted(site.rglob("*.html"))}
    dead = []
    for file, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchor = unquote(parts.fragment)
            if not target.exists():
                dead.append(f"{file.relative_to(site.resolve())}: {link} does not exist")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                dead.append(f"{file.relative_to(site.resolve())}: {link} has no such anchor")
    return dead


if __name__ == "__main__":
    found = dead_links(Path(sys.argv[1]))
    print(*found, sep="\n", file=sys.stderr)
    sys.exit(bool(found))
