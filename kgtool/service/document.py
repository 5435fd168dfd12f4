"""The page `/docs`: the API's description for readers, from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from kgtool.inference.query import ASKED
from kgtool.service.failures import Failed
from kgtool.service.replies import Examples
from kgtool.storage.templates import template_environment

Schema = Mapping[str, Any]


def describe(document: Schema, examples: Examples, failed_with: Mapping[int, Failed]) -> str:
    """The page, which needs no script and loads only its own style.

    Args:
        document: the OpenAPI document.
        examples: queries and entities of the data, for the examples.
        failed_with: the statuses of errors.
    """
    samples = _samples(examples)
    endpoints = [
        _endpoint(path, method.upper(), each, samples.get(path))
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    bodies = [
        {"name": name, "description": schema.get("description", ""), "fields": _fields(schema)}
        for name, schema in document["components"]["schemas"].items()
    ]
    return (
        template_environment("service")
        .get_template("docs.html")
        .render(
            version=document["info"]["version"],
            endpoints=endpoints,
            failed_with=failed_with,
            bodies=bodies,
        )
    )


def _endpoint(path: str, method: str, each: Schema, sample: Any) -> dict[str, Any]:
    content = each.get("requestBody", {}).get("content", {}).get("application/json", {})
    reply = each["responses"]["200"]["content"]["application/json"]["schema"]
    found: dict[str, Any] = {
        "id": f"{method}{path}",
        "method": method,
        "path": path,
        "description": each.get("description", "").split("\n\n"),
        "parameters": [
            {
                "name": one["name"],
                "type": _type(one["schema"]),
                "default": "required" if one["required"] else _default(one["schema"]),
                "description": one.get("description", ""),
            }
            for one in each.get("parameters", ())
        ],
        "body": _type(content["schema"]) if content else None,
        "reply": _type(reply),
        "link": None,
        "command": None,
    }
    needs = any(one["required"] for one in each.get("parameters", ()))
    if method == "GET" and (sample or not needs):
        found["link"] = path + (f"?{urlencode(sample, errors='replace')}" if sample else "")
    elif method == "POST" and sample:
        batch = {"triples": [sample]} if path.endswith("scores") else {"questions": [sample]}
        found["command"] = (
            f"curl -H 'Content-Type: application/json' -d {_quoted(batch)} ADDRESS{path}"
        )
    return found


def _samples(examples: Examples) -> dict[str, dict[str, str]]:
    """An example of the parameters of each address that has some."""
    found: dict[str, dict[str, str]] = {}
    for query in examples.queries:
        parts = {"head": query.head, "relation": query.relation, "tail": query.tail}
        given = {name: text for name, text in parts.items() if text != ASKED}
        if len(given) == 2:
            found.setdefault("/api/answers", given)
        else:
            found.setdefault("/api/scores", given)
            found.setdefault("/api/explanation", given)
    if examples.entities:
        found["/api/facts"] = {"entity": examples.entities[0].label}
        found["/api/entities"] = {"q": examples.entities[0].name[:3]}
    return found


def _fields(schema: Schema) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "type": _type(field),
            "default": "" if name in required else _default(field),
            "description": field.get("description", ""),
        }
        for name, field in schema["properties"].items()
    ]


def _type(schema: Schema) -> list[tuple[str, str]]:
    """The type in words, as parts of a text; those with a link have the name of a schema."""
    if "$ref" in schema:
        name = schema["$ref"].split("/")[-1]
        return [(name, name)]
    if "anyOf" in schema:
        kinds = [_type(each) for each in schema["anyOf"]]
        return [part for i, kind in enumerate(kinds) for part in ([(" or ", "")] * bool(i) + kind)]
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return [(" or ".join(f"“{value}”" for value in values), "")]
    if schema.get("type") == "array":
        most = f" of at most {schema['maxItems']:,}" if "maxItems" in schema else " of"
        return [(f"list{most} ", ""), *_type(schema["items"])]
    kind: str = schema["type"]
    if "maximum" in schema:
        return [(f"integer, {schema['minimum']} to {schema['maximum']}", "")]
    if "maxLength" in schema:
        return [(f"text, at most {schema['maxLength']:,} characters", "")]
    return [({"string": "text", "boolean": "true or false"}.get(kind, str(kind)), "")]


def _default(schema: Schema) -> str:
    default = json.dumps(schema.get("default"), ensure_ascii=False)
    return "empty" if default == '""' else default.strip('"')


def _quoted(value: Any) -> str:
    """A JSON text as one word of a shell."""
    text = json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("'", "'\\''") + "'"
