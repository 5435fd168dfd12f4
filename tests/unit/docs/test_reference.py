"""The reference has a place for everything that the code offers."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import kgtool
from docs._ext import reference
from docs._ext.pages import adapted, filled, included, pages
from kgtool.cli import app
from kgtool.config import load_config, setting_names
from kgtool.data.loaders.reading import FORMATS
from kgtool.data.registry.entries import entries
from kgtool.errors import KGToolError
from kgtool.export import FORMS
from tests.support.places import ROOT
from tests.support.runs import ring, write_folder


def sections(text: str, level: int = 2) -> dict[str, str]:
    """The sections of a page by title."""
    parts = re.split(rf"^{'#' * level} (.*)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_generated_part_has_its_place_on_a_page():
    marks = [
        name
        for page in pages()
        for name in re.findall(r"^<!-- generated: (.*) -->$", page.read_text("utf-8"), re.M)
    ]
    assert sorted(marks) == sorted(reference.GENERATED)


def test_commands():
    found = sections(reference.commands())

    def check(group: Any, name: str) -> int:
        count = 0
        for key, command in group.commands.items():
            if hasattr(command, "commands"):
                count += check(command, f"{name} {key}")
                continue
            text = found.pop(f"{name} {key}")
            first = (command.help or "").split("\n\n")[0]
            assert reference.escaped(first) in text
            for parameter in command.params:
                for flag in parameter.opts if parameter.opts[0].startswith("-") else ():
                    assert flag == "--help" or f"`{flag}" in text, (name, key, flag)
                if parameter.param_type_name == "argument":
                    assert (parameter.metavar or parameter.name.upper()) in text
                assert reference.escaped(parameter.help or "") in text
                default = parameter.get_default(typer.Context(command))
                if default not in (None, False, (), ""):
                    assert f"`{default}`" in text, (name, key, parameter.name)
            examples = re.findall(r"^Example: (.*)$", command.epilog, re.M)
            assert examples
            assert all(f"\n{example}\n" in text for example in examples)
            count += 1
        return count

    assert check(typer.main.get_command(app), "kgtool") > 15
    assert found == {}


def test_settings():
    text = reference.settings()
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `\w+`\{#([\w-]+)\} .*$", text, re.M)}
    assert list(rows) == [reference.anchor(name) for name in setting_names()]
    values = dict(load_config({"one_path": {}, "all_paths": {}, "encoder": {}}).settings())
    for name, value in values.items():
        assert len(rows[reference.anchor(name)].split("|")[3]) > 20, f"{name} has no description"
        if name.split(".")[0] not in ("one_path", "encoder"):  # whose defaults depend on others
            written = reference._toml(value)
            assert f"default `{written}`" in rows[reference.anchor(name)], name
    assert "integer, at least 1, at most 65,536; default `32`" in rows["dim"]
    assert '`"linear"`, `"cosine"`, `"constant"`' in rows["training-lr_schedule"]


def test_python():
    text = reference.python_api()
    titles = dict(re.findall(r"^````\{py:\w+\} (kgtool\.[\w.]+)(.*)$", text, re.M))
    for name in kgtool.__all__:
        assert f"kgtool.{name}" in (titles if name != "__version__" else text), name
        value = getattr(kgtool, name)
        if inspect.isfunction(value):
            for parameter in inspect.signature(value).parameters:
                assert parameter in titles[f"kgtool.{name}"], (name, parameter)
    assert "kgtool.Run.open" in titles
    assert "kgtool.KGDataset.graph" in titles
    assert "'Mapping" not in text, "types have no quotes"
    for part in ("Args", "Raises", "Returns", "Attributes"):
        assert f"\n{part}:\n" not in text


def test_a_docstring_becomes_lists():
    text = "What.\n\nArgs:\n    a, b: one\n        and more.\n\nReturns:\n    A number."
    assert reference.docstring(text).split("\n") == [
        "What.", "", "", "**Arguments**", "", "- `a, b`: one and more.", "",
        "**Returns**", "", "A number.", "",
    ]  # fmt: skip


def test_http():
    text = reference.http_api()
    document = reference.openapi()
    endpoints = sections(text, 3)
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            part = endpoints[f"{method.upper()} {path}"]
            assert each["description"] in part
            for parameter in each.get("parameters", ()):
                assert f"| `{parameter['name']}` |" in part
    for name, schema in document["components"]["schemas"].items():
        for field in schema["properties"]:
            assert f"| `{field}` |" in endpoints[name], (name, field)
    assert {"400", "404", "413", "422", "500", "503"} <= set(
        re.findall(r"^\| (\d+) \|", sections(text)["Errors"], re.M)
    )


def test_files_data_sets_and_errors():
    inputs, exports = reference.inputs(), sections(reference.exports(), 3)
    for name, endings in FORMATS.items():
        assert f"| `{name}` | {', '.join(f'`{ending}`' for ending in endings)} |" in inputs
    assert list(exports) == list(FORMS)
    for name, form in FORMS.items():
        assert all(f"`{file}`" in exports[name] for file in form.FILES)
    table = reference.data_sets()
    for entry in entries().values():
        assert f"| [{entry.name}]({entry.link}) |" in table
    errors = reference.errors()
    classes: list[type[KGToolError]] = [KGToolError, *KGToolError.__subclasses__()]
    for each in classes:
        if each.__module__ == "kgtool.errors":
            assert f"| `{each.__name__}` | {each.exit_code} |" in errors


@pytest.mark.filterwarnings("default::kgtool.errors.KGToolWarning")
def test_the_files_of_a_run(tmp_path: Path):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    settings = {
        "dim": 4, "encoder": {"layers": 0}, "one_path": {"walk_ratio": 0.5},
        "training": {"epochs": 1, "validate_every": 1},
    }  # fmt: skip
    one = kgtool.train(settings, data, tmp_path / "one", progress=False, track="tensorboard")
    for evaluate in (
        kgtool.evaluate, kgtool.evaluate_relations, kgtool.evaluate_triples,
        kgtool.evaluate_paths, kgtool.evaluate_walks,
    ):  # fmt: skip
        evaluate(one)
    kgtool.report(one)
    predictor = kgtool.open_predictor(one)
    predictor.prepare()
    memory = kgtool.train(
        {**settings, "one_path": {}}, ring(), tmp_path / "memory", progress=False
    )  # fmt: skip
    grown = kgtool.extend(memory, [("new", "r000", "e000")], tmp_path / "grown")
    patterns = [
        re.sub(r"<\w+>", r"[^/]+", re.escape(name)).replace(r"\*", ".*")
        for names, _ in reference.files_of_a_run()
        for name in names
    ]
    for run in (one, memory, grown):
        for file in run.path.rglob("*"):
            name = file.relative_to(run.path).as_posix()
            assert file.is_dir() or any(
                re.fullmatch(pattern + (".*" if pattern.endswith("/") else ""), name)
                for pattern in patterns
            ), f"{name} is missing in the docstring of kgtool.runs.run"


def test_links_lead_to_pages_of_the_site():
    places = included()
    assert places["CHANGELOG.md"] == "docs/about/changelog.md"
    page = ROOT / "docs" / "guides" / "train.md"

    def link(target: str) -> str:
        return adapted(f"[x]({target})", page, places)

    assert link("evaluate.md#compare-runs") == "[x](/guides/evaluate.md#compare-runs)"
    assert link("../../benchmarks/README.md#scale") == "[x](/results/benchmarks.md#scale)"
    assert link("https://example.org/") == "[x](https://example.org/)"
    assert link("../../configs/large.toml").startswith("[x](https://github.com/")
    with pytest.raises(FileNotFoundError, match=r"train\.md: a link to nowhere\.md"):
        link("nowhere.md")


def test_a_light_picture_comes_with_the_dark_one():
    page = ROOT / "docs" / "guides" / "service.md"
    text = adapted("![A page.](../pictures/service-light.png)", page, included())
    assert text == (
        "![A page.](/pictures/service-light.png){.only-light}\n"
        "![A page.](/pictures/service-dark.png){.only-dark}"
    )


def test_links_of_an_included_file_start_at_that_file():
    page = ROOT / "docs" / "about" / "contributing.md"
    text = filled("<!-- include: README.md -->", page, included())
    assert "](/guides/zero-shot.md)" in text
    assert "](docs/" not in text
