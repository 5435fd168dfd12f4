"""Templates escape labels, and an undefined name is an error."""

from __future__ import annotations

import jinja2
import pytest

from kgtool.storage.templates import template_environment
from tests.support.places import ROOT


@pytest.mark.parametrize("room", ["report", "service"])
def test_labels_are_escaped_and_names_are_checked(room):
    environment = template_environment(room)
    text = "{% if true %}\n<p>{{ label }}</p>\n{% endif %}\n"
    assert environment.from_string(text).render(label="<b>") == "<p>&lt;b&gt;</p>\n"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ lebel }}").render(label="")


def test_one_module_makes_environments():
    makers = [
        path.name
        for path in (ROOT / "kgtool").rglob("*.py")
        if "jinja2.Environment(" in path.read_text(encoding="utf-8")
    ]
    assert makers == ["templates.py"]
