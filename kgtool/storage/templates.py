"""The environment of the page templates of the report and the service."""

from __future__ import annotations

import jinja2


def template_environment(room: str) -> jinja2.Environment:
    """The environment of the templates in a folder of the package, such as `report`.

    Values are escaped, since labels are untrusted, and an undefined name is an error.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kgtool", room),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
