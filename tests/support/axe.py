"""axe-core, which finds faults of accessibility in a page, from the package `axe-core-python`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.browser import Tab

_SPEC = find_spec("axe_core_python")
# Imported as a file: the package itself imports drivers of browsers.
AXE = Path(_SPEC.submodule_search_locations[0]) / "axe.min.js" if (
    _SPEC and _SPEC.submodule_search_locations
) else None  # fmt: skip
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


def violations(tab: Tab) -> list[dict[str, Any]]:
    """The rules of WCAG 2.1 AA and the good practices that the tab's page breaks, with elements."""
    assert AXE is not None
    tab.run(AXE.read_text(encoding="utf-8") + ";true")
    found: list[dict[str, Any]] = tab.run(
        f"axe.run(document, {{runOnly: {RULES}}}).then((found) => found.violations.map((each) => "
        "({rule: each.id, help: each.help, at: each.nodes.slice(0, 5).map((node) => "
        "[node.target.join(' '), node.failureSummary])})))"
    )
    return found
