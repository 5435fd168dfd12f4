"""The command line: commands, their output and their exit codes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import kgtool as package
from kgtool import cli
from kgtool.api.evaluate import evaluate_walks
from kgtool.api.predict import predict_next, predict_routes
from kgtool.cli import renamed
from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import load_dataset
from kgtool.errors import KGToolError
from kgtool.ops import entity_loss
from kgtool.runs.run import BEST, Run, versions
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.storage.tables import load_table, save_table
from kgtool.training import objectives, trainer
from kgtool.training.step import Updater
from tests.support.places import ROOT
from tests.support.runs import ring, tiny_config, write_folder

COLUMNS = ["--format", "--columns", "--delimiter", "--header"]
READING = [*COLUMNS, "--truth", "--skip-bad-lines", "--merge-labels"]
FLAGS = {
    "data list": ["part", "--out", "--overwrite"],
    "data info": ["name"],
    "data fetch": ["names", "--url"],
    "data inspect": ["path", *READING],
    "data show": ["path", "entity", "--top", "--labels", "--types", "--columns"],
    "data convert": ["path", "--out", "--to", *READING, "--overwrite"],
    "data split": [
        "files",
        "--out",
        "--valid",
        "--test",
        "--seed",
        "--inductive",
        "--time",
        "--remove-leaks",
        "--keep-columns",
        "--allow-unseen",
        *READING,
        "--overwrite",
    ],
    "train": [
        "config",
        "overrides",
        "--data",
        "--columns",
        "--out",
        "--minutes",
        "--resume",
        "--init-from",
        "--track",
    ],
    "pretrain": [
        "config",
        "overrides",
        "--data",
        "--columns",
        "--out",
        "--resume",
        "--init-from",
        "--track",
    ],
    "tune": ["config", "overrides", "--data", "--columns", "--out", "--trials", "--minutes"],
    "config": ["name", "--defaults", "--data", "--columns", "--minutes"],
    "extend": ["run", "triples", "--out", "--data", *COLUMNS, "--features"],
    "evaluate": [
        "run",
        "--task",
        "--split",
        "--data",
        "--features",
        "--columns",
        "--ensemble",
        "--hits",
        "--seed",
        "--candidates",
        "--sample-negatives",
        "--lengths",
        "--num-queries",
        "--max-answers",
        "--compose",
        "--num-walks",
        "--ranks",
        "--group-by",
        "--out",
        "--overwrite",
    ],
    "compare": ["runs", "--split", "--group-by", "--out", "--hits", "--overwrite"],
    "predict": [
        "run",
        "query",
        "--task",
        "--queries",
        "--triples",
        "--strict",
        "--top",
        "--include-known",
        "--filter-types",
        "--types",
        "--any-type",
        "--assumed-missing",
        "--labels",
        "--out",
        "--overwrite",
        "--max-length",
        "--format",
        "--columns",
        "--delimiter",
        "--header",
        "--data",
        "--features",
    ],
    "complete": [
        "run",
        "--top",
        "--relation",
        "--filter-types",
        "--types",
        "--any-type",
        "--assumed-missing",
        "--labels",
        "--out",
        "--overwrite",
        "--data",
        "--features",
    ],
    "explain": [
        "run",
        "head",
        "relation",
        "tail",
        "--top",
        "--json",
        "--plot",
        "--labels",
        "--data",
        "--features",
        "--overwrite",
    ],
    "export": ["run", "--out", "--formats", "--labels", "--data", "--features", "--overwrite"],
    "report": [
        "run",
        "--split",
        "--data",
        "--features",
        "--ensemble",
        "--labels",
        "--out",
        "--overwrite",
    ],
    "serve": [
        "run",
        "--data",
        "--features",
        "--labels",
        "--types",
        "--assumed-missing",
        "--host",
        "--port",
    ],
}
PANELS = {
    "Data": ["data"],
    "Train": ["train", "pretrain", "tune", "config", "extend"],
    "Evaluate": ["evaluate", "compare"],
    "Ask": ["predict", "complete", "explain"],
    "Share": ["export", "report", "serve"],
}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Kgtool = Callable[..., Result]


def without_progress(err: str) -> str:
    """Standard error without the lines that show progress off a terminal."""
    return re.sub(r"(compiling kernels, |epoch \d+: loss |.* so far).*\n", "", err)


@pytest.fixture
def kgtool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kgtool:
    """Runs a command line in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["kgtool", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        # Without a code the process ends with 0.
        code = caught.value.code or 0
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return Result(code, out, without_progress(err))

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the data set `ring/` and the configuration `tiny.toml` for it."""
    write_folder(ring(), tmp_path / "ring")
    config = tiny_config(epochs=2).model_copy(update={"data": "ring"})
    (tmp_path / "tiny.toml").write_text(config.to_toml())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change the run use `run_copy`."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_folder(ring(), folder / "ring")
    config = tiny_config(epochs=1).model_copy(update={"data": str(data)})
    return trainer.train(config, load_dataset(data), folder / "run", progress=False).path


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def refused(result: Result, code: int, *parts: str) -> None:
    """Check that the command exits with the code and prints one message that contains the parts."""
    assert result.code == code, result
    assert "Traceback" not in result.err + result.out
    assert result.err.count("kgtool: ") == 1
    assert result.err.startswith("kgtool: ")
    for part in parts:
        assert part in result.err


# From end to end, in processes of their own.

GUARD = """
import os, sys
written = []
def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError("the network was asked for")
    if event == "open" and isinstance(args[0], str):
        mode, flags = args[1], args[2]
        if (mode and set("wax+") & set(mode)) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(args[0])
    elif event in ("os.mkdir", "os.rename", "os.remove"):
        written.append(os.fspath(args[0]))
sys.addaudithook(guard)
from kgtool.cli import main
try:
    main()
finally:
    allowed = (os.getcwd() + os.sep, os.environ["TMPDIR"], os.devnull)  # torch looks for a TMPDIR
    for path in written:
        # Python and numba keep what they compiled beside the source.
        if not os.path.abspath(path).startswith(allowed) and "__pycache__" not in path:
            print("OUTSIDE", path, file=sys.stderr)
"""


def run_process(
    *command: str, cwd: Path, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80", "PYTHONWARNINGS": "default"}
    if home is not None:
        (home / "tmp").mkdir(exist_ok=True)
        environment |= {"HOME": str(home), "TMPDIR": str(home / "tmp")}
        for name in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
            environment.pop(name, None)
        environment.pop("DGLBACKEND", None)
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    done.stderr = without_progress(done.stderr)
    return done


def test_train_evaluate_export(place, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    guarded = (sys.executable, "-c", GUARD)

    done = run_process(*guarded, "train", "tiny.toml", "dim=4", cwd=place, home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Load report of ring" in done.stdout
    assert re.search(r"Best valid MRR 0\.\d{4} after epoch [12]; the run is runs/tiny", done.stdout)
    assert [path.name for path in home.iterdir()] == ["tmp"]
    assert sorted(path.name for path in place.iterdir()) == ["ring", "runs", "tiny.toml"]
    run = Run.open(place / "runs" / "tiny")
    assert (run.config.dim, run.config.data) == (4, "ring")

    done = run_process(*guarded, "evaluate", "runs/tiny", cwd=place, home=home)
    assert (done.returncode, done.stderr) == (0, "")
    metrics = json.loads((run.path / "metrics.test.json").read_text())
    assert f"{metrics['both']['realistic']['mrr']:.4f}" in done.stdout
    assert "Written to runs/tiny/metrics.test.json" in done.stdout
    assert [path.name for path in home.iterdir()] == ["tmp"]

    done = run_process(
        sys.executable, "-m", "kgtool", "export", "runs/tiny", "--out", "vectors", cwd=place
    )
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(str(path.relative_to(place)) for path in (place / "vectors").iterdir())
    assert sorted(re.findall("Written to (.*)", done.stdout)) == files


def test_the_installed_command_stops_on_ctrl_c(place):
    command = shutil.which("kgtool", path=str(Path(sys.executable).parent))
    assert command is not None
    environment = os.environ | {"COLUMNS": "80"}
    process = subprocess.Popen(
        [command, "train", "tiny.toml", "training.epochs=100000"],
        cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    history = place / "runs" / "tiny" / "history.tsv"
    while process.poll() is None and not history.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        without_progress(err)
        == "Stopped and saved. Continue with the same command and --resume; the run is runs/tiny\n"
    )


# Sends Ctrl-C to itself when it imports a module.
STRUCK = """
import os, signal, sys
class Strike:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
module, sys.argv = sys.argv[1], ["kgtool", *sys.argv[2:]]
sys.meta_path.insert(0, Strike())
from kgtool.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module", ["typer", "torch", "numba", "pandas", "kgtool.config", "kgtool.training.trainer"]
)
def test_ctrl_c_while_it_imports_prints_nothing(place, module):
    done = run_process(sys.executable, "-c", STRUCK, module, "train", "tiny.toml", cwd=place)
    assert done.returncode in (130, -signal.SIGINT)
    assert (done.stdout, done.stderr) == ("", "")
    assert not (place / "runs").exists()


@pytest.mark.parametrize("words", [["--help"], ["data", "list"], ["config", "--defaults"]])
def test_a_reader_that_ends_early_sees_no_traceback(place, words):
    command = shlex.join([sys.executable, "-m", "kgtool", *words])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} | true"],
        cwd=place, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_importing_prints_nothing(tmp_path):
    code = "import os; os.environ.pop('DGLBACKEND', None); import kgtool; kgtool.load_config"
    done = run_process(sys.executable, "-c", code, cwd=tmp_path, home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


# In this process.


def commands_of_the_program() -> dict[str, Any]:
    """Name → command, those of `data` too."""
    group: Any = typer.main.get_command(cli.app)
    data = group.commands.pop("data")
    return {f"data {name}": c for name, c in data.commands.items()} | group.commands


def test_the_flags_are_frozen():
    commands = commands_of_the_program()
    found = {
        name: [
            parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
            for parameter in command.params
        ]
        for name, command in commands.items()
    }
    assert found == FLAGS


@pytest.mark.parametrize("command", ["", "data", *FLAGS])
@pytest.mark.parametrize(("option", "width"), [("--help", 80), ("-h", 80), ("--help", 50)])
def test_help_shows_every_word(kgtool, monkeypatch, command, option, width):
    monkeypatch.setenv("COLUMNS", str(width))
    result = kgtool(*command.split(), option)
    assert (result.code, result.err) == (0, "")
    assert "Usage: " in result.out
    assert "Example: kgtool" in result.out
    words = (
        [flag.removeprefix("-") for flag in FLAGS[command]]
        if command in FLAGS
        else [name.removeprefix(command).split()[0] for name in FLAGS if name.startswith(command)]
    )
    for word in words:
        assert {"overrides": "key=value", "query": "HEAD"}.get(word, word) in result.out
    assert max(map(len, result.out.splitlines())) <= width
    assert len(result.out.splitlines()) > 8


def test_commands_have_examples_and_options_have_panels():
    for name, command in commands_of_the_program().items():
        assert f"{command.epilog} ".startswith(f"Example: kgtool {name}"), name
        options = [each for each in command.params if each.opts[0].startswith("-")]
        assert all(each.help and each.help.endswith(".") for each in command.params), name
        sizes = Counter(each.rich_help_panel for each in options)
        assert max(sizes.values(), default=0) <= 8, (name, sizes)


def test_help_puts_descriptions_below_names_on_a_narrow_terminal(kgtool, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = [line.strip("│ ") for line in kgtool("data", "split", "--help").out.splitlines()]
    assert lines[lines.index("--remove-leaks SHARE") + 1].startswith("Among relations")
    assert "Random seed. [at least 0; default: 0]" in lines
    monkeypatch.setenv("COLUMNS", "80")
    wide = kgtool("data", "split", "--help").out
    assert re.search(r"--remove-leaks SHARE +Among relations", wide)


def test_without_a_command_the_help_shows_the_panels(kgtool):
    result = kgtool()
    assert result.code == 2
    lines = (result.out + result.err).splitlines()
    panels: dict[str, list[str]] = {}
    for line in lines[lines.index(next(line for line in lines if "─ Data ─" in line)) :]:
        if title := re.match(r"╭─ (\w+) ─", line):
            panels[title[1]] = []
        elif name := re.match(r"│ (\w+) ", line):
            panels[next(reversed(panels))].append(name[1])
    assert panels == PANELS


def command_lines(text: str) -> list[str]:
    """The indented command lines of a page or script, without `torchrun` and the like before.

    And those that fill the last cell of a table's row.
    """
    joined = re.sub(r"\\\n *", "", text)
    lines = re.findall(
        r"^(?:#?    .*?|.*\| *|Example: )kgtool ([a-z].*?)(?: +[#>].*)?$", joined, flags=re.M
    )
    return lines + re.findall(r"^\|.*\| `kgtool ([a-z][^`]*)` \|$", joined, flags=re.M)


def test_command_lines_of_help_and_documents_are_accepted():
    group: Any = typer.main.get_command(cli.app)
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "datasets" / "README.md"]
    texts = [page.read_text(encoding="utf-8") for page in (*pages, *ROOT.glob("configs/*.toml"))]
    texts += [command.epilog for command in commands_of_the_program().values()]
    lines = [line for text in texts for line in command_lines(text)]
    assert len(lines) > 50
    for line in lines:
        words = shlex.split(line)
        context, command = typer.Context(group), group
        if words[0] == "data":
            command = group.commands["data"]
            words = words[1:]
        name, found, rest = command.resolve_command(context, words)
        assert found.make_context(name, rest, parent=context).command is found, line


# A new process for what must not import torch and the like.
LIGHT = """
import sys
from kgtool.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "dgl", "pandas", "sklearn", "numba", "pyarrow", "scipy", "kgtool.config"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "--version", "--help", "-h", "train --help", "evaluate -h", "data", "trian x",
        "train x --otu y", "metrics x", "predict x --all", "evaluate x --task walks --compose",
    ],
)  # fmt: skip
def test_help_and_usage_errors_import_nothing_heavy(tmp_path, arguments):
    done = run_process(sys.executable, "-c", LIGHT, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    code = "import sys, kgtool; assert not {'torch', 'dgl', 'pandas'} & set(sys.modules)"
    assert run_process(sys.executable, "-c", code, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("old", renamed.COMMANDS)
def test_an_old_command_names_the_new_one(kgtool, old):
    for words in ([old], [old, "run", "--split", "test"], [old, "--help"]):
        refused(kgtool(*words), 2, f"`kgtool {old}` is now `{renamed.COMMANDS[old]}`\n")
    assert kgtool(*renamed.COMMANDS[old].split()[1:], "--help").code == 0


@pytest.mark.parametrize("old", renamed.OPTIONS)
def test_an_old_option_names_the_new_one(kgtool, old):
    new = renamed.OPTIONS[old]
    having = [name for name, flags in FLAGS.items() if new in flags and old not in flags]
    assert having
    for command in having:
        for words in ([old, "x"], [f"{old}=x"], ["x", "y", old]):
            refused(kgtool(*command.split(), *words), 2, f"`{old}` is now `{new}`\n")
    other = next(name for name, flags in FLAGS.items() if new not in flags and old not in flags)
    assert "No such option" in kgtool(*other.split(), "x", old).err
    assert old not in {flag for command in having for flag in FLAGS[command]}


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("evaluate run --compose", ["--compose", "--task links", "goes with --task paths."]),
        ("evaluate run --task walks --hits 1", ["--hits does not go with --task walks"]),
        ("evaluate run --task paths --ensemble x", ["--ensemble does not go with --task paths"]),
        ("evaluate run --task relations --seed 0", ["--seed does not go with --task relations"]),
        ("evaluate run --group-by x", ["--group-by", "goes with --ranks."]),
        ("evaluate --ranks x --split valid", ["--split does not go with --ranks"]),
        ("evaluate run --ranks x", ["RUN does not go with --ranks"]),
        ("evaluate --task links --ranks x", ["--task does not go with --ranks"]),
        ("evaluate --task walks --data x", ["without a run", "--task links"]),
        ("predict run e --task next --queries x", ["--queries does not go with --task next"]),
        ("predict run e --max-length 2", ["--max-length does not go with --task links"]),
        ("predict run e --task routes --labels x", ["goes with --task links, --task neighbours"]),
        ("predict run --task next", ["does not take 0 labels", "ENTITY [RELATION ENTITY ...]"]),
        ("predict run a b c --task routes", ["does not take 3 labels", "HEAD [TAIL]"]),
        ("predict run a b --task neighbours", ["does not take 2 labels"]),
    ],
)
def test_options_of_another_task_are_refused(kgtool, command, parts):
    refused(kgtool(*command.split()), 2, *parts)


def test_the_lazy_names_of_the_package_are_those_that_it_imports_for_type_checkers():
    tree = ast.parse((ROOT / "kgtool" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module
        for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert imported == package._MODULES
    assert sorted([*imported, "__version__"]) == package.__all__
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert not isinstance(getattr(package, name), ModuleType)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_functions_with_the_names_of_packages_stay_functions(tmp_path):
    code = "import kgtool.export.tsv, kgtool.report.content; print(kgtool.report, kgtool.export)"
    done = run_process(sys.executable, "-c", code, cwd=tmp_path)
    assert re.match("<function report .*<function export ", done.stdout), done.stderr


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["trian", "x.toml"], "train"),
        (["evalute", "x"], "evaluate"),
        (["train", "x.toml", "--otu", "y"], "--out"),
        (["evaluate", "x", "--spilt", "valid"], "--split"),
        (["export", "x", "--dta", "y"], "--data"),
        (["data", "fecth", "x"], "fetch"),
        (["data", "fetch", "x", "--ulr", "y"], "--url"),
    ],
)
def test_an_unknown_word_names_the_nearest(kgtool, arguments, near):
    result = kgtool(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert near in result.err.split("No such")[1]
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments", [["tune"], ["compare"], ["export", "x"], ["data", "inspect"], ["data", "fetch"]]
)
def test_a_missing_word_is_named(kgtool, arguments):
    result = kgtool(*arguments)
    assert result.code == 2
    assert "Missing" in result.err


def test_the_run_goes_where_out_says(kgtool, place):
    result = kgtool("train", "tiny.toml", "--out", "a/[b] :smile: [/c]", "--data", "ring")
    assert result.code == 0, result
    assert "the run is a/[b] :smile: [/c]\n" in result.out
    assert not (place / "runs").exists()
    found = kgtool("evaluate", "a/[b] :smile: [/c]", "--split", "valid")
    assert found.code == 0
    assert "Written to a/[b] :smile: [/c]/metrics.valid.json\n" in found.out
    refused(kgtool("evaluate", "[/x] :smile:"), 2, "[/x] :smile: is not a run")


def test_convert_brings_a_data_set_into_our_shape(kgtool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for split in ("train", "valid", "test"):
        Path("data", f"{split}.csv").write_text(f"1;a;r;{split}\n")
    for given in ([], ["--delimiter", ";"]):
        refused(
            kgtool("data", "convert", "data", "--out", "out", *given), 2,
            "line 1: 4 columns", "--columns (kgtool data inspect", "3 is 'r', 4 is 'train'",
        )  # fmt: skip
    assert not Path("out").exists()
    reading = ("--delimiter", ";", "--columns", "2,3,4")
    found = kgtool("data", "inspect", "data", *reading)
    assert (found.code, found.err) == (0, "")
    done = kgtool("data", "convert", "data", "--out", "out", *reading)
    assert (done.code, done.err) == (0, ""), done
    assert done.out.startswith(found.out)
    assert "Written to out/train.txt\n" in done.out
    assert Path("out/test.txt").read_text() == "a\tr\ttest\n"
    assert "Load report of out" in kgtool("data", "inspect", "out").out


def test_a_run_is_extended_and_trained_on(kgtool, place):
    assert kgtool("train", "tiny.toml", "--out", "first").code == 0
    (place / "new.tsv").write_text("e000\tr000\t[b]new[/b]\ne000\tr000\t[b]new[/b]\n")
    done = kgtool("extend", "first", "new.tsv", "--out", "grown")
    assert done.code == 0, done
    assert re.search(r"added +1 *\n *given twice +1 *\n", done.out)
    assert "The run is grown; train it further with --init-from grown\n" in done.out
    refused(kgtool("extend", "first", "new.tsv", "--out", "grown"), 2, "grown exists already")
    refused(kgtool("extend", "first", "gone.tsv", "--out", "x"), 2, "gone.tsv", "Remedy: ")
    assert kgtool("evaluate", "grown").code == 0
    done = kgtool("train", "grown/config.toml", "--init-from", "grown", "--out", "on")
    assert done.code == 0, done
    assert Run.open(place / "on").read_info()["start"]["run"] == str(place / "grown")
    assert "[b]new[/b]" in Run.open(place / "on").vocabulary.entities
    again = kgtool("train", "grown/config.toml", "--init-from", "grown", "--out", "on", "--resume")
    assert again.code == 0, again
    refused(
        kgtool("train", "grown/config.toml", "dim=4", "--init-from", "grown", "--out", "y"),
        2, "dim is 8 there and 4 here",
    )  # fmt: skip
    assert not (place / "y").exists()


def test_metrics_of_a_file_are_those_of_the_evaluation(kgtool, run_copy, tmp_path):
    found = kgtool("evaluate", run_copy, "--hits", "2,5")
    assert found.code == 0, found
    assert "Hits@2  Hits@5" in found.out
    ranks = run_copy / "ranks.test.tsv"
    again = kgtool(
        "evaluate",
        "--ranks",
        ranks,
        "--hits",
        "2,5",
        "--group-by",
        "relation",
        "--group-by",
        "half_links",
        "--out",
        tmp_path / "t.parquet",
    )
    assert again.code == 0, again
    note = "half_links: which of the answer and the question's entity have an edge"
    assert note in found.out
    assert note in again.out
    mrr = json.loads((run_copy / "metrics.test.json").read_text())["both"]["realistic"]["mrr"]
    assert f"{mrr:.4f}" in again.out
    said = " ".join(again.out.split())
    assert re.search(r"Ranks are among \d+ candidates per query, the answer included", said)
    for relation in Run.open(run_copy).vocabulary.relations:
        assert relation in again.out
    ours, theirs = load_table(run_copy / "breakdown.test.tsv"), load_table(tmp_path / "t.parquet")
    assert ours["value"].astype(float).tolist() == pytest.approx(theirs["value"].tolist())
    assert ours["group"].tolist() == theirs["group"].tolist()


def test_metrics_refuse_what_they_cannot_count(kgtool, run_copy, tmp_path):
    refused(kgtool("evaluate", "--ranks", tmp_path / "gone.tsv"), 2, "gone.tsv: no such file")
    kgtool("evaluate", run_copy)
    ranks = run_copy / "ranks.test.tsv"
    refused(
        kgtool("evaluate", "--ranks", ranks, "--group-by", "colour"),
        2,
        "relation, category",
        "not 'colour'",
    )
    refused(
        kgtool("evaluate", "--ranks", ranks, "--hits", "1,x"), 2, "--hits 1,x: not whole numbers"
    )
    refused(kgtool("evaluate", run_copy, "--hits", "0"), 2, "--hits 0: not whole numbers")
    refused(
        kgtool("evaluate", "--ranks", ranks, "--out", tmp_path / "t.csv"),
        2,
        "unsupported table format. Remedy: use .tsv, .parquet",
    )


def test_relations_and_triples_of_a_run(kgtool, run_copy, tmp_path):
    found = kgtool("evaluate", run_copy, "--task", "relations", "--hits", "1,2")
    assert found.code == 0, found
    mrr = json.loads((run_copy / "relations.test.json").read_text())["realistic"]["mrr"]
    assert f"{mrr:.4f}" in found.out
    assert f"Written to {run_copy / 'relations.test.tsv'}\n" in found.out
    assert len(load_table(run_copy / "relations.test.tsv")) == 8

    found = kgtool("evaluate", run_copy, "--task", "triples")
    assert found.code == 0, found
    assert "8 triples, 8 negatives, sampled" in found.out
    told = json.loads((run_copy / "triples.test.json").read_text())
    assert f"{told['accuracy']:.4f}" in found.out
    table = load_table(run_copy / "triples.test.tsv")
    right = (table["holds"] == table["taken"]).mean()
    assert right == pytest.approx(told["accuracy"])
    assert load_table(run_copy / "calibration.test.tsv")["count"].astype(int).sum() == 16
    refused(
        kgtool("evaluate", run_copy, "--task", "triples", "--split", "train"),
        2,
        "split is 'train'. Remedy: pass one of valid, test.",
    )
    refused(kgtool("evaluate", run_copy, "--task", "relations", "--split", "tset"), 2, "is 'tset'")


def test_negatives_of_the_data_are_taken(kgtool, place):
    kgtool("train", "tiny.toml", "--out", "run")
    for split in ("valid", "test"):
        text = (place / "ring" / f"{split}.txt").read_text()
        lines = [line.split("\t") for line in text.splitlines()]
        swapped = "".join(f"{tail}\t{relation}\t{head}\n" for head, relation, tail in lines)
        (place / "ring" / f"{split}_negatives.txt").write_text(swapped)
    found = kgtool("evaluate", "run", "--task", "triples")
    assert "8 negatives, from the data" in " ".join(found.out.split()), found
    assert (
        "8 negatives, sampled"
        in kgtool("evaluate", "run", "--task", "triples", "--sample-negatives").out
    )
    (place / "ring" / "test_negatives.txt").write_text("e000\tr000\te999\n")
    result = kgtool("evaluate", "run", "--task", "triples")
    refused(result, 2, "test_negatives.txt", "line 1", "the entity 'e999' is not in the vocabulary")


def test_runs_side_by_side(kgtool, run_copy, tmp_path):
    refused(kgtool("compare", run_copy), 2, "one run alone", "name two or more")
    refused(kgtool("compare", tmp_path / "gone", run_copy), 2, "gone: no such run or file")
    refused(kgtool("compare", run_copy, run_copy), 2, f"{run_copy} is named twice")
    other = Path(shutil.copytree(run_copy, tmp_path / "other"))
    for file in run_copy.glob("ranks.*"):
        file.unlink()
    words = f"{run_copy} holds no ranks.test.tsv. Remedy: kgtool evaluate {run_copy} --split test"
    refused(kgtool("compare", run_copy, other), 2, words)
    assert kgtool("evaluate", run_copy).code == 0
    better = load_table(run_copy / "ranks.test.tsv")
    better["rank"] = "1"
    save_table(better.sample(frac=1, random_state=0), tmp_path / "best.tsv")
    shutil.copy(run_copy / "ranks.test.tsv", other)
    result = kgtool(
        "compare", run_copy, other, tmp_path / "best.tsv", "--group-by", "relation",
        "--hits", "1,4", "--out", tmp_path / "table.tsv",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    told = " ".join(result.out.split())
    every = "MRR, MR, AMRI, Hits@1, Hits@4"
    assert f"other against run: no significant difference: {every}." in told
    assert re.search(r"best against run: better: MRR, MR.*Hits@1", told)
    assert "0 of 3 groups gain, 0 lose" in told
    assert max(map(len, result.out.replace(str(tmp_path), "").splitlines())) <= 80
    table = load_table(tmp_path / "table.tsv")
    assert set(table["run"]) == {"run", "other", "best"}
    assert {"all", "relation", "degree"} <= set(table["by"])
    refused(
        kgtool("compare", run_copy, other, "--group-by", "colour"), 2,
        "groups relation, category", "not 'colour'",
    )  # fmt: skip
    first = Path(shutil.copytree(run_copy, tmp_path / "deep" / "run"))
    result = kgtool("compare", run_copy, first)  # of the same name
    assert f"{first}against{run_copy}" in "".join(result.out.split())  # long paths are wrapped


def test_baselines_beside_a_run(kgtool, run_copy, tmp_path):
    data = Run.open(run_copy).config.data
    result = kgtool("evaluate", "--data", data, "--out", tmp_path / "trivial", "--hits", "2")
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.replace(str(tmp_path), "").splitlines())) <= 80
    for name in ("frequency", "inverse", "pagerank", "pagerank-frequency"):
        folder = tmp_path / "trivial" / name
        assert f"Written to {folder}\n" in result.out
        metrics = json.loads((folder / "metrics.test.json").read_text())
        assert metrics["baseline"] == name
        assert f"{metrics['both']['realistic']['mrr']:.4f}" in result.out
        assert (folder / "breakdown.test.tsv").is_file()
    assert kgtool("evaluate", run_copy).code == 0
    result = kgtool("compare", tmp_path / "trivial" / "inverse", run_copy)
    assert (result.code, result.err) == (0, "")
    assert "run against inverse" in result.out
    result = kgtool("evaluate", "--data", data, "--split", "valid")
    assert result.code == 0
    assert "Written" not in result.out
    refused(kgtool("evaluate"), 2, "without a run", "--data PATH")
    refused(kgtool("evaluate", "--data", data, "--ensemble", run_copy), 2, "without --ensemble")
    refused(kgtool("evaluate", run_copy, "--out", "x"), 2, "--out is for baselines")
    refused(kgtool("evaluate", "--data", tmp_path / "gone"), 2, "gone")


def test_ctrl_c_gives_the_baselines_that_are_done(kgtool, run_copy, tmp_path, monkeypatch):
    def interrupt(*about: object) -> None:
        raise KeyboardInterrupt

    data, out = Run.open(run_copy).config.data, tmp_path / "trivial"
    monkeypatch.setattr("kgtool.evaluation.baselines.PageRank.walk", interrupt)
    result = kgtool("evaluate", "--data", data, "--out", out)
    assert (result.code, result.err) == (0, "")
    assert sorted(place.name for place in out.iterdir()) == ["frequency", "inverse"]
    rows = [line.split()[0] for line in result.out.splitlines() if line.strip()]
    assert "inverse" in rows
    assert "pagerank" not in rows
    monkeypatch.setattr("kgtool.evaluation.baselines.RelationFrequency.score_t", interrupt)
    assert kgtool("evaluate", "--data", data).code == 130


def test_fewer_candidates_are_named_wherever_they_stand(kgtool, run_copy, tmp_path):
    for words, name in (("sampled:4", "sampled-4"), ("types", "types")):
        result = kgtool("evaluate", run_copy, "--candidates", words)
        assert (result.code, result.err) == (0, "")
        assert f"queries among {name} candidates, not all" in " ".join(result.out.split())
        assert f"Ranks among {name} candidates" in result.out
        assert f"Written to {run_copy}/ranks.{name}.test.tsv\n" in result.out
        metrics = json.loads((run_copy / f"metrics.{name}.test.json").read_text())
        assert metrics["candidates"] == name
        assert metrics["sampled"] == {}
    sampled = run_copy / "ranks.sampled-4.test.tsv"
    assert set(load_table(sampled)["candidates"]) == {"5"}
    assert "Ranks are among 5 candidates per query" in kgtool("evaluate", "--ranks", sampled).out
    load_table(sampled).drop(columns="candidates").to_csv(tmp_path / "no.tsv", sep="\t")
    told = " ".join(kgtool("evaluate", "--ranks", tmp_path / "no.tsv").out.split())
    assert "The file does not give the number of candidates." in told
    assert not (run_copy / "metrics.test.json").exists()
    refused(
        kgtool("compare", *run_copy.glob("ranks.*.test.tsv")),
        2,
        "different protocols",
        "candidates",
    )
    for wrong in ("sampled", "sampled:0", "sampled:x", "type", "types:"):
        words = (
            f"unknown candidates {wrong!r}. Remedy: use all, types, types:FILE, or sampled:NUMBER"
        )
        refused(kgtool("evaluate", run_copy, "--candidates", wrong), 2, words)
    data, out = Run.open(run_copy).config.data, tmp_path / "trivial"
    result = kgtool("evaluate", "--data", data, "--candidates", "types", "--out", out)
    assert result.code == 0
    assert "among types candidates" in result.out
    assert (out / "inverse" / "metrics.types.test.json").is_file()


def test_a_report_takes_an_evaluation(kgtool, run_copy, tmp_path):
    for file in run_copy.glob("*.test.*"):
        file.unlink()
    refused(kgtool("report", run_copy), 2, f"Remedy: run `kgtool evaluate {run_copy}` first")
    refused(kgtool("report", run_copy, "--split", "tset"), 2, "is 'tset'")
    kgtool("evaluate", run_copy)
    refused(kgtool("report", run_copy, "--labels", tmp_path / "gone"), 2, "cannot read")
    done = kgtool("report", run_copy)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"Written to {run_copy / name}" for name in ("report.test.html", "report.test.card.md")
    ]
    mrr = json.loads((run_copy / "metrics.test.json").read_text())["both"]["realistic"]["mrr"]
    assert f"{mrr:.4f}" in (run_copy / "report.test.html").read_text()
    assert kgtool("report", run_copy, "--out", tmp_path / "a" / "page.html").code == 0
    assert (tmp_path / "a" / "page.html").is_file()


def test_overrides_and_data_count(kgtool, place):
    config = tiny_config(epochs=1)
    (place / "bare.toml").write_text(config.to_toml())
    refused(kgtool("train", "bare.toml"), 2, "names no data set. Remedy: pass --data PATH")
    assert kgtool("train", "bare.toml", "seed=5", "--data", "ring").code == 0
    run = Run.open("runs/bare")
    assert (run.config.seed, run.config.data) == (5, "ring")
    shutil.rmtree("runs")
    assert kgtool("train", "bare.toml", "data=ring", "training.optimizer=adagrad").code == 0
    assert Run.open("runs/bare").config.training.optimizer == "adagrad"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "none.toml"], ["none.toml", "No such file"]),
        (["train", "tiny.toml", "epochs=3"], ["unknown key 'epochs'", "'training.epochs'"]),
        (["train", "tiny.toml", "dim=0"], ["dim = 0"]),
        (["train", "tiny.toml", "dim"], ["'dim' is not a setting"]),
        (["train", "tiny.toml", "--data", "rnig"], ["rnig", "ring"]),
        (["train", "tiny.toml", "--resume"], ["runs/tiny is not a run"]),
        (["train", "tiny.toml", "--out", "ring"], ["ring exists already"]),
        (["evaluate", "rnig"], ["rnig is not a run"]),
        (["export", "ring", "--out", "x", "--formats", "tsv,npz"], ["'npz'", "did you mean npy"]),
        (["data", "inspect", "none"], ["none"]),
        (["data", "inspect", "tiny.toml"], ["tiny.toml"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_mistake_is_one_message_and_code_2(kgtool, place, arguments, parts):
    before = sorted(place.rglob("*"))
    result = kgtool(*arguments)
    refused(result, 2, *parts)
    assert sorted(place.rglob("*")) == before


def test_inspect_prints_the_load_report(kgtool, place):
    with (place / "ring" / "valid.txt").open("a") as file:
        file.write("e000\tr000\tstranger\n")
    result = kgtool("data", "inspect", "ring")
    assert (result.code, result.err) == (0, "")
    assert "Load report of ring" in result.out
    assert "stranger" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_bad_data_names_file_and_line(kgtool, place):
    with (place / "ring" / "valid.txt").open("a") as file:
        file.write("one\ttwo\n")
    for arguments in (["train", "tiny.toml"], ["data", "inspect", "ring"]):
        refused(kgtool(*arguments), 2, "valid.txt, line 9", "2 columns")
    assert not (place / "runs").exists()


def test_a_taken_folder_says_how_to_go_on(kgtool, place):
    assert kgtool("train", "tiny.toml").code == 0
    refused(kgtool("train", "tiny.toml"), 2, "runs/tiny exists already", "--resume")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_metrics_of_each_split(kgtool, trained, split):
    result = kgtool("evaluate", trained, "--split", split)
    assert (result.code, result.err) == (0, "")
    metrics = json.loads((trained / f"metrics.{split}.json").read_text())
    assert list(metrics) == [
        "split", "candidates", "both", "head", "tail", "raw", "seen", "sampled", "counts",
        "dataset", "versions",
    ]  # fmt: skip
    assert metrics["split"] == split
    assert metrics["counts"]["triples"] == len(ring().split(split))
    assert metrics["dataset"] == {"name": "ring", "fingerprint": ring().fingerprint}
    assert metrics["versions"] == versions()
    assert f"{metrics['both']['realistic']['mrr']:.4f}" in result.out


def test_a_split_that_is_none(kgtool, trained):
    refused(
        kgtool("evaluate", trained, "--split", "tset"), 2,
        "split is 'tset'. Remedy: did you mean 'test'?",
    )  # fmt: skip


def test_data_elsewhere(kgtool, run_copy, tmp_path):
    copy = run_copy
    data = write_folder(ring(), tmp_path / "moved")
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(info | {"data": str(tmp_path / "gone")}))
    refused(kgtool("evaluate", copy), 2, "gone does not exist any more. Remedy: pass --data PATH")
    assert kgtool("evaluate", copy, "--data", data).code == 0
    refused(kgtool("export", copy, "--out", tmp_path / "v"), 2, "does not exist any more")
    assert kgtool("export", copy, "--out", tmp_path / "v", "--data", data).code == 0
    (data / "test.txt").write_text("e000\tr000\tstranger\n")
    refused(kgtool("evaluate", copy, "--data", data), 2, "test.txt, line 1", "stranger")


def test_a_damaged_run(kgtool, run_copy):
    (run_copy / BEST).write_bytes(b"no")
    refused(kgtool("evaluate", run_copy), 2, str(run_copy / BEST), "damaged")


def test_a_failure_at_work_is_code_1(kgtool, place, monkeypatch):
    monkeypatch.setattr(objectives, "entity_loss", lambda *args: entity_loss(*args) * float("nan"))
    result = kgtool("train", "tiny.toml")
    refused(result, 1, "the loss is nan at step 1 (epoch 1); the update was not made. Remedy: ")


def test_scores_that_are_not_finite_are_code_1(kgtool, run_copy):
    (run_copy / "metrics.test.json").unlink(missing_ok=True)
    tensors, state = load_tensors(run_copy / BEST)
    tensors["decoder.bias"][3] = float("nan")
    save_tensors(run_copy / BEST, tensors, state)
    refused(kgtool("evaluate", run_copy), 1, "NaN or infinite for query")
    assert not (run_copy / "metrics.test.json").exists()


def test_export_writes_the_forms_asked_for(kgtool, trained, tmp_path):
    labels = tmp_path / "labels.tsv"
    labels.write_text("e003\tthe third\n")
    options = ["--formats", "npy, projector", "--labels", labels]
    result = kgtool("export", trained, "--out", tmp_path / "out", *options)
    assert result.code == 0
    files = sorted(map(str, (tmp_path / "out").iterdir()))
    assert sorted(re.findall("Written to (.*)", result.out)) == files
    assert {Path(file).suffix for file in files} == {".npy", ".tsv", ".pbtxt"}
    metadata = (tmp_path / "out" / "projector_metadata.tsv").read_text()
    assert "\nthe third\te003\tentity\n" in metadata
    labels.write_text("e003\n")
    result = kgtool("export", trained, "--out", tmp_path / "other", *options)
    refused(result, 2, "labels.tsv, line 1")


def test_export_leaves_a_run_alone(kgtool, run_copy):
    before = {path: path.read_bytes() for path in run_copy.iterdir()}
    refused(kgtool("export", run_copy, "--out", run_copy), 2, "is a run", f"{run_copy / 'export'}")
    assert {path: path.read_bytes() for path in run_copy.iterdir()} == before
    assert kgtool("export", run_copy, "--out", run_copy / "export").code == 0


def test_what_cannot_be_written_is_code_1(kgtool, trained, tmp_path):
    (tmp_path / "file").touch()
    refused(kgtool("export", trained, "--out", tmp_path / "file" / "x"), 1, "cannot write")


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads walks."""
    folder = tmp_path_factory.mktemp("walker")
    data = write_folder(ring(), folder / "ring")
    config = tiny_config(epochs=1, walk_ratio=0.5).model_copy(update={"data": str(data)})
    return trainer.train(config, load_dataset(data), folder / "run", progress=False).path


def test_perplexity_of_walks(kgtool, walker):
    result = kgtool(
        "evaluate",
        walker,
        "--task",
        "walks",
        "--split",
        "valid",
        "--num-walks",
        "40",
        "--seed",
        "3",
    )
    assert (result.code, result.err) == (0, "")
    assert f"Written to {walker}/walks.valid.json" in result.out
    found = json.loads((walker / "walks.valid.json").read_text())
    assert [found[name] for name in ("split", "walks", "seed", "max_length")] == ["valid", 40, 3, 3]
    assert found["dataset"]["fingerprint"] == ring().fingerprint
    assert len(found["perplexity"]) == 10
    for row in found["perplexity"]:
        assert f"{row['both']:,.2f}" in result.out
    again = evaluate_walks(walker, "valid", num_walks=40, seed=3)
    assert again.table.to_dict("records") == found["perplexity"]
    assert kgtool("evaluate", walker, "--task", "walks").code == 0
    assert (walker / "walks.test.json").exists()


def test_next_steps_of_a_walk(kgtool, walker):
    result = kgtool("predict", walker, "e003", "^r002", "e001", "--task", "next", "--top", "5")
    assert (result.code, result.err) == (0, "")
    table = predict_next(walker, ["e003", "^r002", "e001"], top=1000)
    assert len(table) == 6 * 24
    assert table["probability"].sum() == pytest.approx(1, abs=1e-5)
    for row in table.head(5).itertuples():
        assert re.search(
            rf"{row.probability:.4f} .*{re.escape(row.relation)} +{row.entity}", result.out
        )
    known = {
        step for head, r, tail in ring().train.tolist() for step in
        ((head, f"r{r:03}", f"e{tail:03}"), (tail, f"^r{r:03}", f"e{head:03}"))
    }  # fmt: skip
    for row in table.itertuples():
        assert row.known == ((1, row.relation, row.entity) in known)
    assert kgtool("predict", walker, "e003", "--task", "next").code == 0


def test_routes(kgtool, walker):
    for tail in (None, "e005"):
        result = kgtool(
            "predict",
            walker,
            "e000",
            *([tail] if tail else []),
            "--task",
            "routes",
            "--max-length",
            "2",
            "--top",
            "4",
        )
        assert (result.code, result.err) == (0, "")
        table = predict_routes(walker, "e000", tail, max_length=2, top=100)
        assert len(table) == 6 + 36
        assert table["probability"].is_monotonic_decreasing
        for row in table.head(4).itertuples():
            assert re.search(
                rf"{row.probability:.4f} +{re.escape(' / '.join(row.path))} ", result.out
            )
        assert ("arrives" in table) == bool(tail)
    assert max(map(len, predict_routes(walker, "e000", top=300)["path"])) == 3


def test_walks_that_cannot_be_read(kgtool, walker, trained):
    for command in ("evaluate RUN --task walks", "predict RUN e001 --task next",
                    "predict RUN e001 --task routes"):  # fmt: skip
        words = [str(trained) if word == "RUN" else word for word in command.split()]
        refused(kgtool(*words), 2, "was not trained on walks. Remedy: train with")
    refused(kgtool("evaluate", walker, "--task", "walks", "--split", "tset"), 2, "is 'tset'")
    refused(
        kgtool("predict", walker, "e01", "--task", "next"),
        2,
        "unknown entity 'e01' (did you mean 'e0",
        "Remedy: use a label",
    )
    refused(
        kgtool("predict", walker, "e001", "^r1", "e002", "--task", "next"),
        2,
        "unknown relation '^r1' (did you mean '^r001'?)",
    )
    refused(
        kgtool("predict", walker, "e001", "r001", "--task", "next"),
        2,
        "a walk of 2 labels does not end at an",
    )
    refused(kgtool("predict", walker, "e001", "x", "--task", "routes"), 2, "unknown entity 'x'")
    refused(
        kgtool("predict", walker, "e001", "--max-length", "4", "--task", "routes"),
        2,
        "one_path.max_path_length=4",
    )
    assert kgtool("predict", walker, "e001", "--max-length", "0", "--task", "routes").code == 2


@pytest.fixture
def cache(place, monkeypatch):
    """An empty cache, and no user registry."""
    monkeypatch.setenv("KGTOOL_CACHE", str(place / "cache"))
    monkeypatch.delenv("KGTOOL_REGISTRY", raising=False)
    return place / "cache"


def test_data_sets_are_listed_and_told(kgtool, cache):
    result = kgtool("data", "list")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    assert ["FB15k-237", "310,116", "14,541", "237", "3.7", "MB"] in rows
    assert ["umls", "6,529", "135", "46", "35.6", "kB"] in rows
    assert ["ILPC-small_ind", "26,770", "6,653", "?", "531.8", "kB"] in rows
    assert "Fetched: none." in result.out
    assert str(cache) in result.out.replace("\n", "")
    assert not cache.exists()
    result = kgtool("data", "list", "CODEX", "--out", "list.jsonl")
    assert (result.code, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()[3:6]] == [
        "CoDEx-S", "CoDEx-M", "CoDEx-L",
    ]  # fmt: skip
    listed = [json.loads(line) for line in Path("list.jsonl").read_text().splitlines()]
    assert [(row["name"], row["licence"]) for row in listed] == [
        (f"CoDEx-{size}", "MIT") for size in "SML"
    ]
    assert listed[1]["size"] is None
    refused(kgtool("data", "list", "codex", "--out", "list.jsonl"), 2, "exists already")
    refused(kgtool("data", "list", "codes"), 2, "no data set has 'codes' in its name")

    result = kgtool("data", "info", "FB15k-237")
    assert (result.code, result.err) == (0, "")
    told = " ".join(result.out.split())
    for part in (
        "272,115 train, 17,535 valid, 20,466 test", "CC BY 2.5", "Toutanova and Chen",
        "https://aclanthology.org/W15-4007/", "3,678,603 bytes",
        "https://github.com/TimDettmers/ConvE/raw/master/FB15k-237.tar.gz",
        "311df7930f842a02979eaa7a802484a6afe62303c07f915f1e6edbc30cbe05e8", "fetched no",
    ):  # fmt: skip
        assert part in told
    assert str(cache / "FB15k-237.tar.gz") in "".join(told.split())
    refused(kgtool("data", "info", "fb15k237"), 2, "'fb15k237'", "did you mean FB15k-237?")
    told = " ".join(kgtool("data", "info", "FB-25_ind").out.split())
    assert "17,147 train, 5,716 valid, 5,716 test" in told
    assert "licence CC BY-NC-SA" in told
    assert "train.txt from msg.txt" in told
    assert "train.txt: unknown; the first fetch pins it" in told
    refused(kgtool("data", "fetch", "umsl"), 2, "did you mean umls?")
    refused(kgtool("data", "fetch", "umls", "umsl"), 2, "did you mean umls?")
    refused(kgtool("data", "fetch", "umls", "WN18RR", "--url", "https://x/y"), 2, "one at a time")
    refused(kgtool("data", "fetch", "umls", "--url", "ftp://x/y"), 2, "is not an https address")


def test_a_name_is_taken_for_data_once_it_is_fetched(kgtool, place, cache, monkeypatch):
    archive = Path(shutil.make_archive(str(place / "held"), "gztar", place / "ring"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (place / "own.toml").write_text(
        f"""
        [my-ring]
        about = "[bold]a ring[/wrong]"
        address = "http://127.0.0.1:9/my-ring.tar.gz"
        sha256 = "{digest}"
        size = {archive.stat().st_size}
        train = 56
        valid = 8
        test = 8
        entities = 24
        relations = 3
        """
    )
    monkeypatch.setenv("KGTOOL_REGISTRY", "own.toml")
    assert "[bold]a ring[/wrong]" in kgtool("data", "info", "my-ring").out
    remedy = "Remedy: kgtool data fetch my-ring"
    refused(kgtool("data", "inspect", "my-ring"), 2, "not fetched yet", remedy)
    refused(kgtool("train", "tiny.toml", "--data", "my-ring"), 2, "not fetched yet", remedy)
    refused(kgtool("train", "tiny.toml", "data=my-ring"), 2, "not fetched yet", remedy)

    cache.mkdir()
    shutil.copy(archive, cache / "my-ring.tar.gz")  # as by a fetch; see test_fetching
    result = kgtool("data", "fetch", "my-ring")
    assert (result.code, result.out) == (0, f"my-ring is {cache / 'my-ring.tar.gz'}\n")
    assert "Fetched: my-ring." in kgtool("data", "list").out
    assert "Load report of my-ring" in kgtool("data", "inspect", "my-ring").out
    result = kgtool("train", "tiny.toml", "data=my-ring")
    assert (result.code, result.err) == (0, "")
    run = Run.open("runs/tiny")
    assert run.config.data == "my-ring"
    assert run.read_info()["data"] == str((cache / "my-ring.tar.gz").resolve())
    assert kgtool("evaluate", "runs/tiny").code == 0
    assert kgtool("evaluate", "runs/tiny", "--data", "my-ring").code == 0
    (cache / "my-ring.tar.gz").write_bytes(b"")
    refused(kgtool("evaluate", "runs/tiny", "--data", "my-ring"), 2, "is damaged", remedy)


def interrupt_in_step(monkeypatch: pytest.MonkeyPatch, number: int, times: int = 1) -> None:
    original = Updater.make_step

    def step(self: Any, *args: Any) -> float:
        if self.step + 1 == number:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args)

    monkeypatch.setattr(Updater, "make_step", step)


def test_ctrl_c_is_code_130_and_tells_how_to_go_on(kgtool, place):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 3)
        result = kgtool("train", "tiny.toml")
    assert result.code == 130
    assert result.err == (
        "Stopped and saved. Continue with the same command and --resume; the run is runs/tiny\n"
    )
    refused(kgtool("train", "tiny.toml"), 2, "--resume")
    result = kgtool("train", "tiny.toml", "--resume")
    assert result.code == 0
    assert "Best valid MRR" in result.out
    refused(kgtool("train", "tiny.toml", "dim=4", "--resume"), 2, "another configuration")
    assert kgtool("train", "tiny.toml", "--resume").code == 0


def test_a_second_ctrl_c_is_code_130_without_a_traceback(kgtool, place):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 3, times=2)
        result = kgtool("train", "tiny.toml")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert "saved" not in result.err


def test_every_error_of_the_package_is_caught(kgtool, monkeypatch):
    for error in KGToolError.__subclasses__():

        def fail(error: type[KGToolError] = error) -> None:
            raise error("[bold]what[/wrong] and the remedy " + "x" * 100)

        monkeypatch.setattr(cli, "app", fail)
        result = kgtool()
        refused(result, error.exit_code, "[bold]what[/wrong] and the remedy " + "x" * 100)
        assert result.err.count("\n") == 1


# Data sets of loose triples.


@pytest.fixture
def loose(place: Path) -> Path:
    """All triples of `ring` in one file, with two duplicates and one strange label."""
    text = "".join((place / "ring" / f"{split}.txt").read_text() for split in SPLITS)
    lines = text.splitlines(keepends=True)
    (place / "loose.tsv").write_text(text + "".join(lines[:2]) + "[/b]\tr000\te001\n")
    return place / "loose.tsv"


def test_split_makes_a_folder_that_trains(kgtool, loose):
    made = kgtool("data", "split", loose, "--out", "new/kg", "--seed", "3")
    assert (made.code, made.err) == (0, "")
    assert "75 triples read" in made.out
    words = [line.split() for line in made.out.splitlines()]
    for split, count in (("train", "59"), ("valid", "7"), ("test", "7")):
        assert [line[1] for line in words if line[:1] == [split]] == [count]
    assert ["duplicates,", "removed", "2"] in words
    assert "Written to new/kg\n" in made.out
    assert max(map(len, made.out.splitlines())) <= 80
    assert kgtool("train", "tiny.toml", "--data", "new/kg").code == 0
    refused(kgtool("data", "split", loose, "--out", "new/kg"), 2, "new/kg exists already. Remedy: ")
    assert kgtool("data", "split", loose, "--out", "again", "--seed", "3").code == 0
    for split in SPLITS:
        again = Path("again", f"{split}.txt").read_bytes()
        assert again == Path("new", "kg", f"{split}.txt").read_bytes()


def test_split_over_two_graphs(kgtool, loose):
    made = kgtool("data", "split", loose, "--out", "[kg]", "--inductive", "0.4", "--valid", "0.05")
    assert (made.code, made.err) == (0, "")
    assert "[kg]: train" in made.out
    assert "[kg]_ind: test" in made.out
    left = Path("[kg]", "left_out.txt").read_text().splitlines()
    assert re.search(rf"left out: between the two graphs +{len(left)} ", made.out)
    assert "Written to [kg]_ind\n" in made.out
    entities = [set(load_dataset(name).vocabulary.entities) for name in ("[kg]", "[kg]_ind")]
    assert not entities[0] & entities[1]


def test_split_by_time_without_leaks(kgtool, loose):
    lines = loose.read_text().splitlines()
    timed = [f"{line}\t{i:02}\n" for i, line in enumerate(lines[:-3])]
    timed += [re.sub("r000(.*)\t", r"twin\1\t", line) for line in timed if "r000" in line]
    Path("timed.tsv").write_text("".join(timed))
    made = kgtool(
        "data", "split", "timed.tsv", "--out", "kg", "--time", "4", "--remove-leaks", "0.97"
    )
    assert (made.code, made.err) == (0, "")
    assert re.search(r"left out: near-duplicate relation +24 ", made.out)
    last = Path("kg", "test.txt").read_text()
    assert last == "".join(f"{line}\n" for line in lines[:-3][-len(last.splitlines()) :])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--valid", "0"], ["valid = 0 is out of range"]),
        (["--inductive", "0.4", "--time", "4"], ["time and inductive exclude each other"]),
        (["--time", "9"], ["loose.tsv", "9"]),
        (
            ["--remove-leaks", "97"],
            ["remove_leaks = 97 is out of range. Remedy: choose a share such as 0.97"],
        ),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_split_that_cannot_be_leaves_nothing(kgtool, place, loose, options, parts):
    before = sorted(place.rglob("*"))
    refused(kgtool("data", "split", loose, "--out", "kg", *options), 2, *parts)
    assert sorted(place.rglob("*")) == before


def test_inspect_tells_of_leaks(kgtool, place):
    train = place / "ring" / "train.txt"
    pairs = [line.split("\t") for line in train.read_text().splitlines()]
    with train.open("a") as file:
        file.writelines(f"{tail}\t[b]own\t{head}\n" for head, name, tail in pairs if name == "r001")
    for split in ("valid", "test"):
        lines = (place / "ring" / f"{split}.txt").read_text().splitlines(keepends=True)
        (place / "ring" / f"{split}.txt").write_text("".join(x for x in lines if "r001" not in x))
    said = " ".join(kgtool("data", "inspect", "ring").out.split())
    assert "relations '[b]own' and 'r001' share at least 100 % of their pairs" in said


# One rule for files that exist: a command refuses them, unless --overwrite is passed.


def test_no_command_replaces_a_file_unasked(kgtool, run_copy, tmp_path, monkeypatch):
    """Each command with an output runs twice; the second run needs --overwrite."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(Run.open(run_copy).dataset().path), "data")
    Path("loose.tsv").write_text("".join(Path("data", f"{s}.txt").read_text() for s in SPLITS))
    Path("q.tsv").write_text("e000\tr000\t?\n")
    assert kgtool("evaluate", run_copy).code == 0
    ranks = run_copy / "ranks.test.tsv"
    shutil.copytree(run_copy, "other")
    commands: dict[str, list[object]] = {
        "converted": ["data", "convert", "data", "--out", "converted"],
        "split": ["data", "split", "loose.tsv", "--out", "split", "--allow-unseen"],
        "answers.tsv": ["predict", run_copy, "--queries", "q.tsv", "--out", "answers.tsv"],
        "new.tsv": ["complete", run_copy, "--top", "3", "--out", "new.tsv"],
        "why.json": ["explain", run_copy, "e000", "r000", "e001", "--json", "why.json"],
        "why.svg": ["explain", run_copy, "e000", "r000", "e001", "--plot", "why.svg"],
        "vectors": ["export", run_copy, "--out", "vectors", "--formats", "tsv"],
        "page.html": ["report", run_copy, "--out", "page.html"],
        "groups.tsv": ["evaluate", "--ranks", ranks, "--out", "groups.tsv"],
        "trivial": ["evaluate", "--data", "data", "--out", "trivial"],
        "compared.tsv": ["compare", run_copy, "other", "--out", "compared.tsv"],
    }
    writing = {name.split()[0] for name, flags in FLAGS.items() if "--overwrite" in flags}
    assert writing == {str(command[0]) for command in commands.values()}
    for name, command in commands.items():
        done = kgtool(*command)
        if name.startswith("why") and done.code == 2 and "one path at a time" in done.err:
            continue  # this run has no passes to explain
        assert done.code == 0, (name, done.err)
        place = Path(name)
        files = sorted(place.rglob("*.*")) if place.is_dir() else [place]
        before = {file: file.read_bytes() for file in files}
        assert before
        refused(kgtool(*command), 2, "exists already. Remedy: ", "--overwrite")
        assert {file: file.read_bytes() for file in files} == before
        files[0].write_text("another")
        assert kgtool(*command, "--overwrite").code == 0
        assert files[0].read_bytes() == before[files[0]]


def test_an_output_never_replaces_an_input(kgtool, run_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("q.tsv").write_text("e000\tr000\t?\n")
    Path("link.tsv").symlink_to("q.tsv")
    for out in ("q.tsv", "link.tsv"):
        done = kgtool("predict", run_copy, "--queries", "q.tsv", "--out", out, "--overwrite")
        refused(done, 2, f"{out} is an input, and the output would replace it")
    assert Path("q.tsv").read_text() == "e000\tr000\t?\n"


# One loose file is data everywhere.


def test_a_loose_file_is_trained_and_evaluated_on_one_split(kgtool, place, loose):
    lines = [line.split("\t") for line in loose.read_text().splitlines()[:72]]
    rows = [f'"{h}",{t},{r},0.5\n' for h, r, t in lines]
    Path("g.csv").write_text("from,to,type,weight\n" + "".join(rows))
    refused(kgtool("train", "tiny.toml", "--data", "g.csv", "--out", "run"), 2, "from,type,to")
    assert not Path("run").exists()
    done = kgtool(
        "train", "tiny.toml", "--data", "g.csv", "--columns", "from,type,to", "--out", "run"
    )
    assert done.code == 0, done.err
    rule = "split at random: 10 % for valid and 10 % for test, seed 0"
    assert rule in " ".join(done.out.split())
    assert rule in Path("run", "train.log").read_text()
    info = Run.open("run").read_info()
    assert info["loading"]["reading"] == {"columns": ["from", "type", "to"]}
    assert info["loading"]["split"] == {"valid": 0.1, "test": 0.1, "seed": 0}
    assert Run.open("run").dataset().fingerprint == info["fingerprint"]
    assert kgtool("evaluate", "run").code == 0
    assert Path("run", "metrics.test.json").exists()
    again = kgtool(
        "train", "tiny.toml", "--data", "g.csv", "--columns", "from,type,to", "--out", "run",
        "--resume",
    )  # fmt: skip
    assert again.code == 0, again.err
    Path("more.tsv").write_text("e000\tr000\tnew\n")
    done = kgtool("extend", "run", "more.tsv", "--out", "grown")
    assert done.code == 0, done.err
    assert kgtool("evaluate", "grown").code == 0
    done = kgtool("evaluate", "--data", "g.csv", "--columns", "from,type,to")
    assert (done.code, rule in " ".join(done.out.split())) == (0, True)
    refused(kgtool("evaluate", "run", "--columns", "1,2,3"), 2, "--columns is for baselines")
    assert kgtool("data", "inspect", "g.csv", "--columns", "from,type,to").code == 0


def test_training_refuses_doubtful_columns(kgtool, place):
    rows = [f"a{i % 40}\tt{i % 77}\tr{i % 3}\n" for i in range(400)]
    Path("g.tsv").write_text("".join(rows))
    done = kgtool("train", "tiny.toml", "--data", "g.tsv", "--out", "run")
    refused(done, 2, "the third may be the relation. Remedy: pass --columns 1,3,2")
    assert not Path("run").exists()


def test_training_needs_valid(kgtool, place):
    Path("g.tsv").write_text("".join(f"a{i}\tr\tb{i}\n" for i in range(30)))
    done = kgtool("train", "tiny.toml", "--data", "g.tsv", "--out", "run")
    refused(done, 2, "no triples to train with", "kgtool data split g.tsv --out FOLDER --allow")
    assert not Path("run").exists()


def test_show_prints_the_facts_of_an_entity(kgtool, place):
    Path("nodes.csv").write_text("id,name,kind\ne000,Zero,Digit\n")
    done = kgtool("data", "show", "ring", "Zero", "--labels", "nodes.csv", "--types", "nodes.csv")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[:3] == ["Zero (e000)", "type: Digit", "degree: 6 (head of 3, tail of 3)"]
    assert "^r000 1 e023" in lines
    refused(kgtool("data", "show", "ring", "00"), 2, "such as 'e000', 'e001', 'e002'")


def test_names_are_in_files_too(kgtool, run_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nodes.csv").write_text('id,name\ne001,"One, or first"\ne000,Zero\n')
    options = ["--labels", "nodes.csv", "--out"]
    assert kgtool("predict", run_copy, "Zero", "r000", "?", *options, "a.tsv").code == 0
    table = load_table("a.tsv")
    assert set(table["head_name"]) == {"Zero"}
    assert set(table["head"]) == {"e000"}
    assert dict(zip(table["tail"], table["tail_name"], strict=True)).get("e001") in (
        None,
        "One, or first",
    )
    assert kgtool("complete", run_copy, "--top", "5", *options, "b.jsonl").code == 0
    assert '"tail_name":' in Path("b.jsonl").read_text()


def test_a_training_is_tracked_or_refused_before_it_begins(kgtool, place, monkeypatch):
    result = kgtool("train", "tiny.toml", "--data", "ring", "--track", "tensorboard")
    assert (result.code, result.err) == (0, "")
    assert len([*Path("runs/tiny").glob("events.out.tfevents.*")]) == 1
    again = ["--data", "ring", "--resume", "--track", "tensorboard", "training.epochs=6"]
    assert kgtool("train", "tiny.toml", *again).code == 0
    assert len([*Path("runs/tiny").glob("events.out.tfevents.*")]) == 2
    assert json.loads(Path("runs/tiny/tracking.json").read_text()) == {"tensorboard": "events"}
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import then fails
    begin = ["train", "tiny.toml", "--data", "ring", "--out", "runs/new", "--track"]
    refused(kgtool(*begin, "mlflow"), 2, "pip install 'kgtool[mlflow]'")
    refused(kgtool(*begin, "tensorbord"), 2, "did you mean tensorboard?")
    assert not Path("runs/new").exists()


PRETRAIN = """
dim = 8
encoder = {{ kind = "relations", layers = 1 }}
all_paths = {{ layers = 2, mlp_dim = 8, batch_size = 4 }}
training = {{ epochs = 1, steps_per_epoch = 4, validate_every = 1 }}
pretrain = {{ graphs = {{ "{graph}" = 1.0 }}, synthetic = 0.5 }}
"""


def test_a_model_is_pretrained_on_other_graphs(kgtool, place):
    graph = place / "graph.csv"
    graph.write_text("".join(f"a{i},{'up' if i % 3 else 'on'},a{i * 7 % 40}\n" for i in range(40)))
    Path("any.toml").write_text(PRETRAIN.format(graph=graph))
    refused(kgtool("pretrain", "any.toml"), 2, "any.toml names no data set. Remedy: pass --data")
    held_out = ["--data", "ring"]
    refused(kgtool("train", "any.toml", *held_out), 2, "[pretrain]", "Remedy: use kgtool pretrain")
    refused(kgtool("pretrain", "tiny.toml"), 2, "has none. Remedy: name graphs as in configs/pretr")
    refused(
        kgtool("pretrain", "tiny.toml", "pretrain.synthetic=1.0"), 2, "set encoder.kind = 'relati"
    )
    own = [*held_out, "pretrain.graphs={ring=1.0}"]
    refused(kgtool("pretrain", "any.toml", *own), 2, "its train triples are those of ring, which")
    assert not Path("runs").exists()
    done = kgtool("pretrain", "any.toml", *held_out)
    assert done.code == 0
    assert done.err.endswith("held out: training validates on it and does not learn from it\n")
    assert "the run is runs/any\n" in done.out
    again = kgtool("pretrain", "any.toml", *held_out, "--resume", "training.epochs=2")
    assert again.code == 0
    with graph.open("a") as file:
        file.write("a0,up,a39\n")
    changed = kgtool("pretrain", "any.toml", *held_out, "--resume", "training.epochs=3")
    refused(changed, 2, "graph.csv. Remedy: resume with the same files of pretrain.graphs")
    # The run answers on a graph with other relations.
    found = kgtool("evaluate", "runs/any", "--data", graph)
    assert found.code == 0
    assert "realistic" in found.out


def test_settings_are_searched(kgtool, place, monkeypatch):
    described = " ".join(kgtool("tune", "--help").out.split())
    assert "The section tune of the configuration names" in described
    assert "as in dim = [16, 32] or" in described  # not read as markup
    begin = ["tune", "tiny.toml", "training.epochs=1", "--data", "ring", "tune.dim=[4, 8]"]
    refused(kgtool(*begin, "--minutes", "0"), 2, "--minutes 0 is not above 0")
    refused(kgtool(*begin, "tune.dmi=[4, 8]"), 2, "unknown key 'dmi'; the nearest is 'dim'")
    refused(kgtool("train", *begin[1:]), 2, "is a setting of kgtool tune")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)  # an import then fails
        refused(kgtool(*begin), 2, "pip install 'kgtool[tune]'")
    assert not Path("runs").exists()
    pytest.importorskip("optuna")
    done = kgtool(*begin, "--trials", "2")
    assert done.code == 0
    assert "The best configuration is runs/tiny-tune/best.toml" in done.out
    assert "Test MRR of the best run" in done.out
    assert "2 trials: 2 finished." in done.out
    assert kgtool("train", "runs/tiny-tune/best.toml", "--out", "again").code == 0
    refused(kgtool(*begin, "dim=12", "seed=3"), 2, "runs/tiny-tune was begun with other settings")
