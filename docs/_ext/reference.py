"""The parts of the reference that come from the code: each function returns Markdown.

`GENERATED` has them by name. The extension `docs._ext.pages` puts them into pages when the site is
built, and tests compare them with the code.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import tempfile
import textwrap
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer

import kgtool

Schema = Mapping[str, Any]
NOTEBOOK = Path(__file__).parents[1] / "start" / "notebook.ipynb"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; bars in its cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escaped(text: str) -> str:
    """A plain text as Markdown that shows it as it is."""
    return re.sub(r"([\\*_\[\]<>`])", r"\\\1", text)


# Commands


def command_group() -> Any:
    """The command line as a group of commands."""
    from kgtool.cli import app

    return typer.main.get_command(app)


def walk_commands(group: Any, name: str = "kgtool") -> Iterator[tuple[str, Any]]:
    """Each command with its full name, such as `kgtool data fetch`, in the order of the help."""
    for key in group.list_commands(typer.Context(group)):
        command = group.commands[key]
        if hasattr(command, "commands"):
            yield from walk_commands(command, f"{name} {key}")
        else:
            yield f"{name} {key}", command


def commands() -> str:
    """Every command: its help, arguments, options and examples."""
    parts = ["`kgtool --version` prints the version; every command has `--help`."]
    parts += [_command(name, command) for name, command in walk_commands(command_group())]
    return "\n\n".join(parts)


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    shown = [each for each in command.params if "--help" not in each.opts]
    arguments = [parameter_names(each)[0] for each in shown if _is_argument(each)]
    usage = " ".join([name, *arguments, "[OPTIONS]"])
    examples = re.findall(r"^Example: (.*)$", command.epilog or "", re.M)
    return "\n\n".join(
        [
            f"## {name}",
            escaped(command.help or ""),
            f"```text\n{usage}\n```",
            table(("argument or option", "meaning"), [_parameter(each, context) for each in shown]),
            "```sh\n" + "\n".join(examples) + "\n```",
        ]
    )


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def parameter_names(parameter: Any) -> list[str]:
    """The ways to write a parameter: an argument in capitals, an option by its flags."""
    if not _is_argument(parameter):
        return [*parameter.opts, *parameter.secondary_opts]
    name = parameter.metavar or parameter.name.upper()
    if parameter.nargs != 1 and "..." not in name and not parameter.metavar:
        name += " ..."
    return [name if parameter.required or name.startswith("[") else f"[{name}]"]


def _parameter(parameter: Any, context: Any) -> tuple[str, str]:
    names = parameter_names(parameter)
    plain = _is_argument(parameter) or parameter.is_flag
    if not plain:
        names[-1] += f" {parameter.metavar or _value(parameter.display_type_rich(ctx=context))}"
    default = parameter.get_default(context)
    note = (
        "" if default in (None, False, (), "") or parameter.required else f" Default: `{default}`."
    )
    if parameter.required and not _is_argument(parameter):
        note = " Required."
    return ", ".join(f"`{name}`" for name in names), escaped(parameter.help or "") + note


def _value(kind: str) -> str:
    """The placeholder for the value of an option, from its type such as `<list[Path]>`."""
    found = re.search(r"(\w+)\W*$", kind.replace("range", "").strip())
    word = found[1].upper() if found else ""
    return {"STR": "TEXT", "INT": "NUMBER", "FLOAT": "NUMBER"}.get(word, word)


# Settings


def settings() -> str:
    """Every setting of the configuration: type, limits, default and meaning."""
    from kgtool.config import Config

    schema = Config.model_json_schema()
    sections = _sections(schema, schema, "")
    return "\n\n".join(_section(name, section) for name, section in sections)


def _sections(schema: Schema, whole: Schema, name: str) -> Iterator[tuple[str, Schema]]:
    yield name, schema
    for key, field in schema["properties"].items():
        if inner := _inner(field):
            yield from _sections(whole["$defs"][inner], whole, f"{name}.{key}" if name else key)


def _inner(field: Schema) -> str | None:
    """The definition of a field that is a section."""
    for each in (field, *field.get("anyOf", ())):
        if "$ref" in each:
            return str(each["$ref"]).rsplit("/", 1)[-1]
    return None


def _section(name: str, section: Schema) -> str:
    about = section["description"].split("\n\n")[0] if name else "Settings outside of a section."
    rows = [
        (
            f"`{key}`{{#{anchor(f'{name}.{key}' if name else key)}}}",
            f"{_type(field)}; {_default(field)}",
            field["description"],
        )
        for key, field in section["properties"].items()
        if not _inner(field)
    ]
    title = f"## `[{name}]`" if name else "## The top of the file"
    return "\n\n".join(
        [title, about.replace("\n", " "), table(("setting", "value", "meaning"), rows)]
    )


def anchor(setting: str) -> str:
    """The anchor of a setting on its page, as in `training-epochs`."""
    return setting.replace(".", "-")


def _default(field: Schema) -> str:
    default = field.get("default")
    return "unset by default" if default is None else f"default `{_toml(default)}`"


def _toml(value: Any) -> str:
    return json.dumps(round(value, 4) if isinstance(value, float) else value, ensure_ascii=False)


_LARGE = 2**31  # no limit that anybody meets
_KINDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
_LIMITS = {
    "minimum": "at least {}", "exclusiveMinimum": "above {}",
    "maximum": "at most {}", "exclusiveMaximum": "below {}",
}  # fmt: skip


def _type(schema: Schema) -> str:
    """A JSON schema in words, with its limits."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{_toml(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{_toml(schema['const'])}`"
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if schema["type"] == "array":
        most = f" of at most {schema['maxItems']:,}" if "maxItems" in schema else ""
        return f"list{most}: {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"table: {_type(schema['additionalProperties'])}"
    words = [_KINDS[schema["type"]]]
    words += [
        limit.format(f"{schema[key]:,}")
        for key, limit in _LIMITS.items()
        if schema.get(key, _LARGE) < _LARGE
    ]
    if "maxLength" in schema:
        words.append(f"at most {schema['maxLength']:,} characters")
    return ", ".join(words)


# Python


def python_api() -> str:
    """Every name of `kgtool.__all__`: signature, docstring, and what classes offer."""
    names = [name for name in kgtool.__all__ if not name.startswith("_")]
    objects = {name: getattr(kgtool, name) for name in names}
    functions = [name for name in names if not inspect.isclass(objects[name])]
    classes = [name for name in names if inspect.isclass(objects[name])]
    return "\n\n".join(
        [
            "`kgtool.__version__` is the version, a text.",
            "## Functions",
            *(_function(f"kgtool.{name}", objects[name]) for name in functions),
            "## Classes",
            *(_class(f"kgtool.{name}", objects[name]) for name in classes),
        ]
    )


def _function(name: str, function: Any, kind: str = "function") -> str:
    options = [":classmethod:"] if kind == "classmethod" else []
    directive = "method" if kind == "classmethod" else kind
    return _directive(directive, f"{name}{_signature(function, kind)}", function, options)


class _Type(str):
    """A type as the source writes it, which a signature shows without quotes."""

    __repr__ = str.__str__


def _signature(function: Any, kind: str) -> str:
    found = inspect.signature(inspect.unwrap(function))
    parameters = [
        each.replace(annotation=_Type(each.annotation)) if each.annotation != each.empty else each
        for each in found.parameters.values()
    ]
    result = found.return_annotation
    return str(
        found.replace(
            parameters=parameters[1:] if kind == "method" else parameters,
            return_annotation=_Type(result) if result != found.empty else result,
        )
    )


def _directive(kind: str, title: str, documented: Any, options: Sequence[str] = ()) -> str:
    body = docstring(inspect.getdoc(documented) or "")
    return "\n".join([f"````{{py:{kind}}} {title}", *options, "", body, "````"])


def _class(name: str, cls: type) -> str:
    if issubclass(cls, Exception):
        return "\n\n".join([f"### {name.split('.')[1]}", _directive("exception", name, cls)])
    parts = [f"### {name.split('.')[1]}", _directive("class", name, cls)]
    for key, member in vars(cls).items():
        if key.startswith("_") or not _is_own(member):
            continue
        if isinstance(member, property) or hasattr(member, "func"):
            parts.append(_directive("property", f"{name}.{key}", member))
        elif isinstance(member, classmethod):
            parts.append(_function(f"{name}.{key}", getattr(cls, key), "classmethod"))
        else:
            parts.append(_function(f"{name}.{key}", member, "method"))
    return "\n\n".join(parts)


def _is_own(member: Any) -> bool:
    """Whether a member of a class is code of kgtool with a docstring of its own."""
    function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
    return isinstance(function, types.FunctionType) and bool(function.__doc__)


_PARTS = ("Args", "Attributes", "Returns", "Yields", "Raises")


def docstring(text: str) -> str:
    """A docstring as Markdown: its sections `Args:`, `Raises:` … become lists."""
    return re.sub(
        rf"^({'|'.join(_PARTS)}):\n((?:(?:    .*)?\n)*(?:    .*)?)",
        lambda found: _part(found[1], textwrap.dedent(found[2]).strip()),
        text,
        flags=re.M,
    )


def _part(title: str, body: str) -> str:
    if title in ("Returns", "Yields"):
        return f"\n**{title}**\n\n{body}\n"
    items = re.split(r"\n(?=\S)", body)
    lines = []
    for item in items:
        name, colon, meaning = item.partition(":")
        text = re.sub(r"\n\s*", " ", meaning.strip())
        lines.append(f"- `{name}`: {text}" if colon else f"- {item}")
    title = "Arguments" if title == "Args" else title
    return f"\n**{title}**\n\n" + "\n".join(lines) + "\n"


# HTTP


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI document of the service, for a graph of two facts."""
    from kgtool.service.app import build_app

    facts = [("ada", "mother_of", "ben"), ("ben", "father_of", "cleo")]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", kgtool.errors.KGToolWarning)
        data = kgtool.dataset_of(facts, facts[:0], facts[:0])
        predictor = kgtool.open_predictor(kgtool.pretrained(data, Path(folder) / "run"))
        return build_app(predictor, ()).openapi()


def http_api() -> str:
    """Every endpoint with its parameters and replies, the bodies, and the statuses of errors."""
    document = openapi()
    endpoints = [
        _endpoint(path, method.upper(), each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    schemas = document["components"]["schemas"]
    bodies = [_body(name, schema) for name, schema in schemas.items()]
    statuses = {
        status: reply
        for methods in document["paths"].values()
        for each in methods.values()
        for status, reply in each["responses"].items()
        if status != "200"
    }
    errors = table(("status", "meaning"), [(s, r["description"]) for s, r in statuses.items()])
    return "\n\n".join(["## Endpoints", *endpoints, "## Errors", errors, "## Bodies", *bodies])


def _endpoint(path: str, method: str, each: Schema) -> str:
    reply = each["responses"]["200"]["content"]["application/json"]["schema"]
    lines = [f"### {method} {path}", each["description"]]
    if body := each.get("requestBody"):
        lines.append(f"Body: {_type(body['content']['application/json']['schema'])}.")
    rows = [
        (
            f"`{one['name']}`",
            _type(one["schema"]),
            "required" if one["required"] else f"`{_toml(one['schema'].get('default'))}`",
            one.get("description", ""),
        )
        for one in each.get("parameters", ())
    ]
    if rows:
        lines.append(table(("parameter", "type", "default", "meaning"), rows))
    return "\n\n".join([*lines, f"Reply: {_type(reply)}."])


def _body(name: str, schema: Schema) -> str:
    rows = [
        (f"`{key}`", _type(field), field.get("description", ""))
        for key, field in schema["properties"].items()
    ]
    about = schema.get("description", "")
    return "\n\n".join([f"### {name}", about, table(("field", "type", "meaning"), rows)])


# Files, data sets, errors


def run_files() -> str:
    """Every file of a run folder, from the docstring of `kgtool.runs.run`."""
    rows = [
        (", ".join(f"`{name}`" for name in names), text.replace("<", "\\<"))
        for names, text in files_of_a_run()
    ]
    return table(("file", "content"), rows)


def files_of_a_run() -> list[tuple[list[str], str]]:
    """The files of a run, by names with placeholders such as `<split>`, and their content."""
    from kgtool.runs import run

    lines = (run.__doc__ or "").split("\n\n", 1)[1]
    found = []
    for entry in re.split(r"\n(?=\S)", lines.strip()):
        names, text = re.split(r"\s{2,}|\n\s+", entry, maxsplit=1)
        found.append((names.split(", "), re.sub(r"\s+", " ", text)))
    return found


def inputs() -> str:
    """The formats of triples and their file endings."""
    from kgtool.data.loaders.reading import COMPRESSIONS, FORMATS

    rows = [
        (f"`{name}`", ", ".join(f"`{ending}`" for ending in endings))
        for name, endings in FORMATS.items()
    ]
    packed = ", ".join(f"`{ending}`" for ending in COMPRESSIONS)
    return f"{table(('format', 'endings'), rows)}\n\nCompressed: {packed}."


def exports() -> str:
    """The formats of `kgtool export`: their files, and how to read them."""
    from kgtool.export import FORMS

    parts = []
    for name in FORMS:
        module = importlib.import_module(f"kgtool.export.{name}")
        files = ", ".join(f"`{file}`" for file in module.FILES)
        parts.append(f"### {name}\n\nFiles: {files}.\n\n{inspect.getdoc(module)}")
    return "\n\n".join(parts)


def data_sets() -> str:
    """The catalogue of public data sets."""
    from kgtool.data.registry.entries import entries

    rows = []
    for entry in entries().values():
        numbers = [
            "?" if count is None else f"{count:,}"
            for count in (entry.total, entry.entities, entry.relations)
        ]
        known = [bool(source.sha256) for source in entry.sources(entry.address)]
        state = "known" if all(known) else "in part" if any(known) else "pinned"
        rows.append([f"[{entry.name}]({entry.link})", *numbers, state, entry.licence])
    header = ("name", "triples", "entities", "relations", "SHA-256", "licence")
    return table(header, rows).replace("| --- | --- | --- | --- |", "| --- | --: | --: | --: |", 1)


def errors() -> str:
    """The errors that a user can meet, with their exit codes."""
    rows = [
        (f"`{each.__name__}`", str(each.exit_code), (inspect.getdoc(each) or "").split("\n\n")[0])
        for each in error_classes()
    ]
    return table(("error", "exit code", "meaning"), rows)


def error_classes() -> list[type[kgtool.KGToolError]]:
    """`kgtool.KGToolError` and the errors below it that `kgtool.errors` has."""
    from kgtool import errors as module

    found = [each for each in vars(module).values() if inspect.isclass(each)]
    return [each for each in found if issubclass(each, kgtool.KGToolError)]


def notebook() -> str:
    """The cells of the notebook."""
    parts = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            ast.parse(text)
            text = f"```python\n{text}\n```"
        parts.append(re.sub(r"\A# .*\n", "", text))  # the page has its own title
    return "\n\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "python": python_api,
    "http": http_api,
    "run-files": run_files,
    "inputs": inputs,
    "exports": exports,
    "data-sets": data_sets,
    "errors": errors,
    "notebook": notebook,
}
