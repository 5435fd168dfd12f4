"""Every block of commands or Python in a page is run by a test, or says why not."""

from __future__ import annotations

import ast

import pytest

import kgtool
from kgtool.config import load_config
from tests.support.blocks import PAGES, PYTHON, SHELL, TOML, Block, blocks
from tests.support.places import ROOT

BLOCKS = [block for page in PAGES for block in blocks(page)]
MARKED = [block for block in BLOCKS if block.kind != TOML]


def name(block: Block) -> str:
    return f"{block.page}:{block.line}"


def test_the_pages_have_blocks_of_each_kind():
    kinds = [block.kind for block in BLOCKS]
    assert min(kinds.count(kind) for kind in (SHELL, PYTHON, TOML)) > 3
    assert len(kinds) > 70


@pytest.mark.parametrize("block", MARKED, ids=name)
def test_a_block_is_run_or_says_why_not(block):
    assert block.run_by or block.reason, (
        f"{name(block)}: mark the block, see tests/support/blocks.py\n{block.text}"
    )
    if block.run_by:
        test = (ROOT / block.run_by).read_text(encoding="utf-8")
        assert "run_by(" in test, f"{block.run_by} does not take its blocks from the pages"


@pytest.mark.parametrize("block", [each for each in MARKED if each.kind == PYTHON], ids=name)
def test_python_uses_public_names(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "kgtool" or node.attr in kgtool.__all__, node.attr


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == TOML], ids=name)
def test_a_configuration_is_one(block, tmp_path):
    file = tmp_path / "page.toml"
    file.write_text(block.text, encoding="utf-8")
    load_config(file)
