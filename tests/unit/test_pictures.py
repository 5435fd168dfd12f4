"""The pictures of the documents: all are listed, small, described, and for light and dark paper."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest

from kgtool.inference.svg import DARK, dark_rules
from tests.support.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "docs" / "pictures"
PICTURES = tomllib.loads((FOLDER / "pictures.toml").read_text(encoding="utf-8"))
FILES = [FOLDER / name for each in PICTURES.values() for name in each["files"]]
SVG = "{http://www.w3.org/2000/svg}"


def test_all_pictures_are_listed():
    shown = {file for file in FOLDER.iterdir() if file.suffix != ".toml"}
    assert shown == set(FILES)
    assert all(len(each["alt"]) > 40 and each["alt"].endswith(".") for each in PICTURES.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_picture_is_small_and_follows_the_readers_style(file):
    assert file.stat().st_size < 150 * 1024
    if file.suffix == ".png":
        other = {"light": "dark", "dark": "light"}[file.stem.rsplit("-", 1)[1]]
        assert file.with_name(f"{file.stem.rsplit('-', 1)[0]}-{other}.png") in FILES
        return
    root = ElementTree.parse(file).getroot()
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title")
    style = "".join(each.text or "" for each in root.iter(f"{SVG}style"))
    assert "@media (prefers-color-scheme: dark)" in style
    # A phone is 375 wide: letters of 8 are then at least 6 high.
    _, _, width, _ = map(float, (root.get("viewBox") or "").split())
    assert width <= 480


def test_each_colour_has_a_rule_for_fill_and_stroke():
    rules = dark_rules()
    for light, dark in DARK.items():
        for kind in ("fill", "stroke"):
            assert f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}' in rules
    assert len(re.findall("!important", rules)) == 2 * len(DARK)
