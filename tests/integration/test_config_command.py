"""`kgtool config` prints what `kgtool train` reads."""

from __future__ import annotations

import pytest

from kgtool.config import Config, load_config
from tests.support.command_line import called
from tests.support.places import ROOT
from tests.support.runs import ring, write_folder


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, "config", *arguments)

    return run


@pytest.mark.parametrize("name", ["wn18rr", str(ROOT / "configs" / "wn18rr.toml")])
def test_a_preset_is_printed_by_name_and_by_path(run, tmp_path, name):
    code, out, err = run(name)
    assert (code, err) == (0, "")
    (tmp_path / "config.toml").write_text(out)
    assert load_config(tmp_path / "config.toml") == load_config("wn18rr")
    assert run(str(tmp_path / "config.toml"))[1] == out


def test_the_defaults_are_printed(run, tmp_path):
    code, out, _ = run("--defaults")
    assert code == 0
    (tmp_path / "config.toml").write_text(out)
    assert load_config(tmp_path / "config.toml") == Config()
    assert "[one_path]\n" in out


def test_settings_are_chosen_for_data(run, tmp_path):
    folder = write_folder(ring(), tmp_path / "ring")
    code, out, _ = run("--data", str(folder), "--minutes", "0.02")
    assert code == 0
    (tmp_path / "config.toml").write_text(out)
    config = load_config(tmp_path / "config.toml")
    assert config.data == str(folder)
    assert config.combined
    assert "# 24 entities with 4.7 triples each are this far apart\nlayers = 3\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "takes one of three: a configuration, --defaults, or --data"),
        (("families", "--defaults"), "takes one of three"),
        (("families", "--data", "x"), "takes one of three"),
        (("families", "--minutes", "3"), "--minutes goes with --data"),
        (("famlies",), "The presets are codex-s, codex-s-complex"),
    ],
)
def test_mistakes(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_control_characters_are_not_printed(run, tmp_path):
    (tmp_path / "config.toml").write_text('data = "a\x9bb\u202e"', encoding="utf-8")
    assert 'data = "a�b�"' in run(str(tmp_path / "config.toml"))[1]
