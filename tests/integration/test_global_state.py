"""Settings of torch and numpy in the user's process: no number depends on them, and they stay."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import kgtool
from kgtool.errors import KGToolError
from kgtool.ops import standard_state
from kgtool.runs.run import BEST, LAST
from kgtool.storage.checkpoint import load_tensors
from tests.support.places import ROOT
from tests.support.runs import combined_config, random_config, ring, write_folder


@contextmanager
def changed(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def default_dtype(dtype: torch.dtype) -> AbstractContextManager[None]:
    return changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


def default_device() -> AbstractContextManager[None]:
    return changed(lambda: None, torch.set_default_device, "meta")


def threads() -> AbstractContextManager[None]:
    return changed(torch.get_num_threads, torch.set_num_threads, torch.get_num_threads() + 1)


def deterministic() -> AbstractContextManager[None]:
    return changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    )


def precision() -> AbstractContextManager[None]:
    return changed(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium")


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "default device": default_device,
    "device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "precision": precision,
    "numpy": lambda: np.errstate(all="raise"),
}


def state() -> tuple[Any, ...]:
    """The settings that a user may have changed."""
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(), torch.get_num_threads(), tuple(np.geterr().items()),
        torch.get_rng_state().numpy().tobytes(),
    )  # fmt: skip


def config(kind: str) -> Any:
    if kind == "both parts":
        return combined_config(epochs=2)
    return random_config(epochs=2)


def numbers(kind: str, folder: Path) -> dict[str, Any]:
    """Everything that a run gives: weights, metrics, answers, embeddings; all by new objects.

    The folder holds the data, which are made under torch's defaults.
    """
    data = kgtool.load_dataset(folder / "ring")
    run = kgtool.train(config(kind), data, folder / "run", progress=False)
    (folder / "new.tsv").write_text("e000\tr000\tnew\n")
    grown = kgtool.extend(run.path, folder / "new.tsv", folder / "grown")
    found: dict[str, Any] = {
        f"{run.path.name} {name} {key}": tensor.numpy().tobytes()
        for run, names in ((run, (BEST, LAST)), (grown, (BEST,)))
        for name in names
        for key, tensor in load_tensors(run.path / name)[0].items()
    }
    found["mrr"] = kgtool.evaluate(run.path).breakdown
    found["relations"] = kgtool.evaluate_relations(run.path).evaluation.filtered
    found["answers"] = kgtool.predict(run.path, [("e000", "r000", "?"), ("e000", "?", "e003")])
    found["files"] = {
        file.name: file.read_bytes() for file in kgtool.export(grown.path, folder / "out")
    }
    if kind == "both parts":
        found["why"] = [str(path) for path in kgtool.explain(run, "e000", "r000", "e001").paths]
    return found


def assert_equal(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, right[name])
        else:
            assert value == right[name], name


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The numbers under torch's defaults, by kind of model."""
    found: dict[str, dict[str, Any]] = {}

    def of(kind: str) -> dict[str, Any]:
        if kind not in found:
            folder = tmp_path_factory.mktemp("standard")
            write_folder(ring(), folder / "ring")
            found[kind] = numbers(kind, folder)
        return found[kind]

    return of


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("kind", ["both parts", "one-path"])
def test_numbers_do_not_depend_on_the_users_settings(standard, tmp_path, kind, name):
    expected = standard(kind)
    write_folder(ring(), tmp_path / "ring")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")
        with STATES[name]():
            before = state()
            found = numbers(kind, tmp_path)
            assert state() == before
    assert_equal(found, expected)


def test_the_number_of_threads_changes_last_bits_at_most_and_stays(standard, tmp_path):
    write_folder(ring(), tmp_path / "ring")
    with threads():
        before = state()
        found = numbers("both parts", tmp_path)
        assert state() == before
    for name in ("mrr", "answers"):
        pd.testing.assert_frame_equal(found[name], standard("both parts")[name], rtol=1e-3)


def test_an_error_gives_the_settings_back_too():
    with default_dtype(torch.float64), torch.inference_mode():
        before = state()
        with pytest.raises(KGToolError):
            kgtool.load_dataset("/nowhere")
        assert state() == before


def test_every_public_function_that_computes_is_protected():
    functions = {name for name in kgtool.__all__ if inspect.isfunction(getattr(kgtool, name))}
    without = {name for name in functions if not hasattr(getattr(kgtool, name), "__wrapped__")}
    assert without == {"load_config"}  # it uses no tensors


def test_blocks_in_several_threads_end_in_any_order():
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        with standard_state():
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=work)
    with default_dtype(torch.float64):
        with standard_state():
            thread.start()
            begun.wait(60)
        assert torch.get_default_dtype() == torch.float32  # the other thread still works
        end.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64


def test_trainings_in_threads_are_those_of_training_alone(standard, tmp_path, capfd):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    threads = [
        threading.Thread(
            target=kgtool.train, args=(config("one-path"), data, tmp_path / str(i)),
            kwargs={"progress": i == 2},
        )
        for i in range(3)
    ]  # fmt: skip
    threads[0].start()
    while not (tmp_path / "0").exists():  # it trains; the last one waits and says so
        time.sleep(0.001)
    for thread in threads[:0:-1]:
        thread.start()
    for thread in threads:
        thread.join()
    assert "waits for another training in this process" in capfd.readouterr().err
    for i in range(3):
        for key, tensor in load_tensors(tmp_path / str(i) / LAST)[0].items():
            assert tensor.numpy().tobytes() == standard("one-path")[f"run {LAST} {key}"]


FORK = """
import multiprocessing, sys
import kgtool

def work(_):
    try:
        return kgtool.evaluate(sys.argv[1]).mrr
    except RuntimeError as error:
        return str(error)

if __name__ == "__main__":
    if sys.argv[2] == "worked":
        kgtool.evaluate(sys.argv[1])
    with multiprocessing.get_context(sys.argv[3]).Pool(1) as pool:
        print(pool.map_async(work, [0]).get(timeout=120)[0])
"""


@pytest.mark.parametrize(
    ("parent", "method", "works"),
    [("worked", "fork", False), ("worked", "spawn", True), ("idle", "fork", True)],
)
def test_a_forked_process_works_or_says_at_once_why_not(tmp_path, parent, method, works):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    run = kgtool.train(config("one-path"), data, tmp_path / "run", progress=False)
    script = tmp_path / "script.py"
    script.write_text(FORK)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, run.path, parent, method],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if works:
        assert 0 < float(done.stdout) <= 1
    else:
        assert 'Remedy: start processes with multiprocessing.get_context("spawn")' in done.stdout
