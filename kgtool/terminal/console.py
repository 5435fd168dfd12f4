"""What is printed is harmless: labels may be a stranger's, and a terminal obeys characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Characters of control but for the line end, and those that turn the order of others round.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text with `�` for what a terminal would obey or cannot show."""
    return _OBEYED.sub("�", text)


class Terminal(Console):
    """A console that prints texts as they are, and no character that a terminal obeys.

    Brackets are no markup in it, `:words:` no pictures.
    """

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, their texts harmless; styles are the console's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
