"""A console that prints untrusted labels safely."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from kgtool.errors import harmless


class Terminal(Console):
    """A console that prints texts as they are, without control characters.

    It does not read [brackets] as markup, nor `:names:` as emoji.
    """

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, their texts harmless; styles are the console's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
