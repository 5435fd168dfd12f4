"""Training: it learns; interruptions do not change results; test triples are not used."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from kgtool.config import Config, TrainingConfig
from kgtool.data.dataset import KGDataset
from kgtool.errors import ConfigError, Interrupted, RunError, TrainingError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.evaluation.tasks.walk_perplexity import perplexity
from kgtool.graph.random_walk import WalkSampler
from kgtool.models.factory import build_model
from kgtool.models.model import OnePathModel
from kgtool.ops import entity_loss
from kgtool.ops.runtime import progress
from kgtool.runs.run import BEGINNING, BEST, HISTORY, LAST, LOG, OWNERS, PREVIOUS, Run
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.training import factory, objectives, trainer
from kgtool.training.optimizer import learning_rate
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.stress.strangers import in_a_team
from tests.support.runs import RING, all_paths_config, random_config, ring, tiny_config

STEPS_AN_EPOCH = 4


def fit(config: Config, out: Path, dataset: KGDataset | None = None, resume: bool = False) -> Run:
    return train(config, dataset or ring(), out, resume=resume, progress=False)


def weights(run: Run, name: str) -> dict[str, bytes]:
    """The bytes of every tensor of a checkpoint, optimiser and generator included."""
    return {key: t.numpy().tobytes() for key, t in load_tensors(run.path / name)[0].items()}


def history(run: Run) -> pd.DataFrame:
    """The history without its times."""
    table = pd.read_csv(run.path / HISTORY, sep="\t", dtype=str)
    parts = [table.pop("part")] if "part" in table else []
    return pd.concat([*parts, table.drop(columns="seconds").map(float)], axis=1)  # to the last bit


def assert_same(left: Run, right: Run) -> None:
    """Assert that two runs are equal bit for bit."""
    for name in (BEST, LAST):
        assert weights(left, name) == weights(right, name)
    pd.testing.assert_frame_equal(history(left), history(right), check_exact=True)
    ours, theirs = (load_tensors(run.path / LAST)[1] for run in (left, right))
    for name in ("epoch", "step", "stale", "best_mrr"):
        assert ours[name] == theirs[name]


def before_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[Any], None]) -> None:
    """Call a function at the beginning of a step, counted from 1."""
    original = Updater.make_step

    def step(self: Any, rows: Tensor) -> float:
        if self.step + 1 == number:
            act(self)
        return original(self, rows)

    monkeypatch.setattr(Updater, "make_step", step)


def interrupt(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def killed(config: Config, out: Path, step: int) -> None:
    """A run that ends at the beginning of a step, without saving anything."""

    def kill(_: Any) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, step, kill)
        with pytest.raises(MemoryError):
            fit(config, out)


def stop_and_go_on(
    config: Config, out: Path, step: int, sent: signal.Signals = signal.SIGINT
) -> Run:
    """Interrupt a run in a step, then resume it with another global random state."""
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, step, lambda _: os.kill(os.getpid(), sent))
        with pytest.raises(Interrupted):
            fit(config, out)
    assert load_tensors(out / LAST)[1]["step"] == step
    torch.rand(3)
    return fit(config, out, resume=True)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """An uninterrupted run, by optimiser."""
    runs: dict[str, Run] = {}

    def run(optimizer: str) -> Run:
        if optimizer not in runs:
            config = random_config(optimizer=optimizer, weight_decay=1e-3)
            runs[optimizer] = fit(config, tmp_path_factory.mktemp("steady") / "run")
        return runs[optimizer]

    return run


def test_the_ring_takes_four_steps_an_epoch(steady):
    assert load_tensors(steady("adam").path / LAST)[1]["step"] == 4 * STEPS_AN_EPOCH


def test_a_seed_gives_the_same_bits_and_another_does_not(steady, tmp_path):
    run = steady("adam")
    assert_same(fit(run.config, tmp_path / "again"), run)
    other = fit(run.config.model_copy(update={"seed": 8}), tmp_path / "other")
    assert weights(other, BEST) != weights(run, BEST)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad"])
@pytest.mark.parametrize(
    "step", [1, 6, 8, 16], ids=["first", "mid-epoch", "end of epoch", "end of run"]
)
def test_a_run_stopped_and_resumed_is_the_run_never_stopped(steady, tmp_path, optimizer, step):
    run = steady(optimizer)
    assert_same(stop_and_go_on(run.config, tmp_path / "run", step), run)


def test_it_may_stop_often_and_by_sigterm(steady, tmp_path):
    run = steady("adam")
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 3, interrupt)
        with pytest.raises(Interrupted):
            fit(run.config, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 4, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            fit(run.config, tmp_path / "run", resume=True)
    assert_same(fit(run.config, tmp_path / "run", resume=True), run)


def test_an_epoch_ends_after_so_many_steps(tmp_path):
    short = fit(random_config(epochs=3, steps_per_epoch=2), tmp_path / "short")
    assert history(short)["step"].tolist() == [2, 4, 6]
    config = random_config(epochs=3, steps_per_epoch=2)
    assert_same(stop_and_go_on(config, tmp_path / "stopped", 3), short)
    whole = fit(random_config(epochs=3), tmp_path / "whole")
    many = fit(random_config(epochs=3, steps_per_epoch=100), tmp_path / "many")
    assert_same(many, whole)


def test_validations_apart_from_epochs_resume_too(tmp_path):
    config = random_config(epochs=5, validate_every=2, patience=9, max_grad_norm=0.5)
    whole = fit(config, tmp_path / "whole")
    assert history(whole)["epoch"].tolist() == [2, 4, 5]
    for step in (3, 4, 7, 8, 12, 19):
        assert_same(stop_and_go_on(config, tmp_path / f"{step}", step), whole)


def test_a_run_that_draws_entities_resumes(tmp_path):
    config = tiny_config(
        encoder={"fanout": 2, "feature_dropout": 0.1}, num_negatives=6, dura=0.01,
        optimizer="adagrad", max_grad_norm=0.5, learning_rate=0.1,
    )  # fmt: skip
    whole = fit(config, tmp_path / "whole")
    for step in (1, 6, 8):
        assert_same(stop_and_go_on(config, tmp_path / f"{step}", step), whole)


def test_a_run_that_draws_entities_learns(tmp_path):
    config = tiny_config(
        encoder={"fanout": 2}, num_negatives=24, optimizer="adagrad", learning_rate=0.3, epochs=60,
        warmup_steps=0, validate_every=20,
    )  # fmt: skip
    losses = history(fit(config, tmp_path / "run"))["loss"].tolist()
    assert losses[-1] < losses[0]


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path):
    run = fit(random_config(epochs=4, validate_every=3), tmp_path / "whole")

    killed(run.config, tmp_path / "run", 11)
    assert load_tensors(tmp_path / "run" / LAST)[1]["step"] == 2 * STEPS_AN_EPOCH
    assert "failed: MemoryError" in (tmp_path / "run" / LOG).read_text()
    assert_same(fit(run.config, tmp_path / "run", resume=True), run)


def test_a_run_begun_without_a_checkpoint_yet_resumes(steady, tmp_path):
    run = steady("adam")
    Run.create(tmp_path / "run", run.config, ring())
    assert_same(fit(run.config, tmp_path / "run", resume=True), run)


def test_resuming_a_finished_run_does_nothing(steady, tmp_path):
    run = fit(steady("adam").config, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != LOG}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Updater, "make_step", None)
        again = fit(run.config, run.path, resume=True)
    assert again.history() == run.history()
    assert before == {path.name: (run.path / path.name).read_bytes() for path in run.path.iterdir()
                      if path.name != LOG}  # fmt: skip


def test_another_configuration_or_other_data_are_not_resumed(tmp_path):
    config, dataset = tiny_config(epochs=1), ring()
    fit(config, tmp_path / "run")
    other_config = tiny_config(epochs=1, learning_rate=0.1, dim=4)
    with pytest.raises(RunError, match=r"another configuration: dim is 8 there and 4 here; ") as no:
        fit(other_config, tmp_path / "run", resume=True)
    assert "training.learning_rate is 0.005 there and 0.1 here. Remedy: resume" in str(no.value)
    assert "only training.epochs and training.patience may change" in str(no.value)
    other = replace(dataset, train=dataset.train[:-1])
    with pytest.raises(RunError, match="begun on other data"):
        fit(config, tmp_path / "run", other, resume=True)
    # The place of the same data may change.
    fit(config.model_copy(update={"data": "moved"}), tmp_path / "run", resume=True)


def test_a_finished_run_trains_further_as_if_it_had_more_epochs_from_the_start(tmp_path):
    long = fit(random_config(epochs=5, lr_schedule="constant"), tmp_path / "long")
    fit(random_config(epochs=3, lr_schedule="constant"), tmp_path / "run")
    run = fit(long.config, tmp_path / "run", resume=True)
    assert_same(run, long)
    assert Run.open(run.path).config == long.config  # so a next --resume takes it for its own


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_further_epochs_take_their_rate_from_the_longer_schedule(tmp_path, schedule):
    fit(random_config(epochs=2, lr_schedule=schedule), tmp_path / "run")
    longer = random_config(epochs=4, lr_schedule=schedule)
    run = fit(longer, tmp_path / "run", resume=True)
    total = 4 * STEPS_AN_EPOCH
    expected = [learning_rate(longer.training, step, total) for step in (11, 15)]
    assert history(run)["learning_rate"].tolist()[2:] == expected
    assert history(run)["step"].tolist() == [4, 8, 12, 16]


def test_a_run_that_patience_ended_goes_on_with_more_patience(monkeypatch, tmp_path, capfd):
    config = tiny_config(epochs=9, patience=1, learning_rate=1e-9, warmup_steps=0)
    run = fit(config, tmp_path / "run")
    assert len(run.history()) == 2
    more = tiny_config(epochs=12, patience=1, learning_rate=1e-9, warmup_steps=0)
    train(more, ring(), run.path, resume=True)
    assert len(run.history()) == 2  # more epochs do not help
    assert "finished at epoch 2, by training.patience. To train further" in capfd.readouterr().err
    more = tiny_config(epochs=12, patience=3, learning_rate=1e-9, warmup_steps=0)
    assert len(fit(more, run.path, resume=True).history()) == 4


def test_fewer_epochs_than_were_trained_are_refused_and_change_nothing(tmp_path):
    run = fit(tiny_config(epochs=3), tmp_path / "run")
    before = (run.path / "config.toml").read_text()
    with pytest.raises(ConfigError, match=r"training\.epochs = 2, but .* has reached epoch 3\."):
        fit(tiny_config(epochs=2), run.path, resume=True)
    assert (run.path / "config.toml").read_text() == before


def test_a_finished_run_says_how_to_train_further(tmp_path, capfd):
    config = tiny_config(epochs=1)
    fit(config, tmp_path / "run")
    train(config, ring(), tmp_path / "run", resume=True)
    assert "finished at epoch 1, by training.epochs. To train further" in capfd.readouterr().err


def test_nothing_to_resume_and_a_taken_folder(tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        fit(tiny_config(), tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    fit(tiny_config(epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        fit(tiny_config(epochs=1), tmp_path / "run")


def test_a_damaged_last_checkpoint_is_refused_where_there_is_none_before(tmp_path):
    config = tiny_config(epochs=1)
    run = fit(config, tmp_path / "run")
    whole = (run.path / LAST).read_bytes()
    (run.path / PREVIOUS).unlink()
    for content in (whole[:-1], b"", (run.path / BEST).read_bytes()):
        (run.path / LAST).write_bytes(content)
        with pytest.raises(RunError, match=r"last\.safetensors: (damaged|incomplete)"):
            fit(config, tmp_path / "run", resume=True)


def change(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [change, lambda path: path.write_bytes(b""), Path.unlink])
@pytest.mark.parametrize("step", [2, 11])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(steady, tmp_path, capfd, harm, step):
    run = steady("adam")
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, step, interrupt)
        with pytest.raises(Interrupted):
            fit(run.config, tmp_path / "run")
    harm(tmp_path / "run" / LAST)
    again = fit(run.config, tmp_path / "run", resume=True)
    said = capfd.readouterr().err
    log = (again.path / LOG).read_text()
    for text in said, log:
        assert "last.safetensors: " in text
        assert "Training continues from the previous checkpoint, previous.safetensors." in text
    assert f"resumed at step {step // STEPS_AN_EPOCH * STEPS_AN_EPOCH}\n" in log
    assert_same(again, run)
    # Nothing damaged was kept.
    assert load_tensors(again.path / PREVIOUS)[1]["epoch"] == 3


@pytest.mark.parametrize(
    "row",
    [
        {"epoch": math.nan}, {"epoch": math.inf}, {"epoch": -1}, {"epoch": "1"}, {"epoch": None},
        {"valid_mrr": 10**400}, {"valid_mrr": math.nan}, {"valid_mrr": []}, {"loss": "x"},
    ],
)  # fmt: skip
def test_a_checkpoint_whose_history_is_none_is_refused(tmp_path, row):
    """The checkpoint's checksum is right: it is an untrusted file."""
    config = tiny_config(epochs=1)
    run = fit(config, tmp_path / "run")
    tensors, state = load_tensors(run.path / LAST)
    changed = {k: v for k, v in (state["history"][0] | row).items() if v is not None}
    save_tensors(run.path / LAST, tensors, state | {"history": [changed]})
    with pytest.raises(RunError, match=r"last\.safetensors: damaged.*invalid history.*Remedy"):
        fit(config, run.path, resume=True)


@pytest.mark.parametrize("epoch", ["2\x1b[31m", [2], None, 2.0, True])
def test_best_weights_of_no_epoch_are_not_the_best(tmp_path, capfd, epoch):
    config = tiny_config(epochs=2, validate_every=2)
    run = fit(config, tmp_path / "run")
    tensors, state = load_tensors(run.path / BEST)
    save_tensors(run.path / BEST, tensors, {"epoch": epoch})
    fit(config, run.path, resume=True)
    assert load_tensors(run.path / BEST)[1] == state == {"epoch": 2}
    assert "holds the weights of epoch -1, not those of epoch 2" in capfd.readouterr().err


@pytest.mark.parametrize("rows", [0, 1, RING - 1, RING + 1])
def test_rows_that_are_not_the_entities_are_refused_by_several_processes(tmp_path, rows):
    config = tiny_config(encoder={"fanout": 3}, num_negatives=8, optimizer="adagrad", epochs=1)
    run = fit(config, tmp_path / "run")
    save_tensors(run.path / OWNERS, {"owner": torch.arange(RING) % 2}, {"processes": 2})
    with in_a_team(2):
        fit(config, run.path, resume=True)
        tensors, state = load_tensors(run.path / LAST)
        tensors["model.encoder.entities"] = torch.zeros(rows, config.dim)
        save_tensors(run.path / LAST, tensors, state)
        with pytest.raises(RunError, match=r"last\.safetensors: damaged checkpoint.*Remedy"):
            fit(config, run.path, resume=True)


def test_what_a_damaged_checkpoint_says_is_harmless_on_the_terminal(tmp_path, capfd):
    config = tiny_config(epochs=1)
    run = fit(config, tmp_path / "run")
    header = b'{"\\u001b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}'
    (run.path / LAST).write_bytes(len(header).to_bytes(8, "little") + header)
    fit(config, run.path, resume=True)
    for said in capfd.readouterr().err, (run.path / LOG).read_text():
        assert "�[2J" in said
        assert "\x1b" not in said


@pytest.mark.parametrize("harm", [change, Path.unlink])
def test_damaged_best_weights_are_written_anew_while_the_last_are_they(tmp_path, capfd, harm):
    config = tiny_config(epochs=2, validate_every=2)
    run = fit(config, tmp_path / "run")
    assert max(run.history(), key=lambda row: row["valid_mrr"])["epoch"] == 2
    whole = weights(run, BEST)
    harm(run.path / BEST)
    fit(config, run.path, resume=True)
    assert weights(run, BEST) == whole
    assert (
        "last.safetensors has these weights; best.safetensors is written again."
        in capfd.readouterr().err
    )
    assert "is written again" in (run.path / LOG).read_text()


def test_best_weights_that_are_gone_are_told_of_and_what_to_do_helps(monkeypatch, tmp_path):
    values = [0.1, 0.4, 0.3, 0.2]
    with_valid_mrrs(monkeypatch, values)
    whole = fit(tiny_config(), tmp_path / "whole")
    with_valid_mrrs(monkeypatch, values * 2)
    run = fit(tiny_config(), tmp_path / "run")
    other = (run.path / LAST).read_bytes()
    for harm in (change, Path.unlink, lambda path: path.write_bytes(other)):
        harm(run.path / BEST)
        with pytest.raises(
            RunError, match=r"best\.safetensors.*Remedy: restore .* starts from the first step\."
        ):
            fit(run.config, run.path, resume=True)
    for name in (LAST, PREVIOUS):
        (run.path / name).unlink()
    assert_same(fit(run.config, run.path, resume=True), whole)


def test_it_saves_within_a_long_epoch(monkeypatch, steady, tmp_path):
    run = steady("adam")
    monkeypatch.setattr(trainer, "SAVE_AFTER", 0.0)

    killed(run.config, tmp_path / "run", 7)
    assert load_tensors(tmp_path / "run" / LAST)[1]["step"] == 6
    assert_same(fit(run.config, tmp_path / "run", resume=True), run)


def test_two_do_not_train_one_run(monkeypatch, tmp_path):
    config = tiny_config(epochs=1)
    refused: list[str] = []

    def again(_: Any) -> None:
        with pytest.raises(RunError, match="another process is training") as caught:
            fit(config, tmp_path / "run", resume=True)
        refused.append(str(caught.value))

    before_step(monkeypatch, 2, again)
    fit(config, tmp_path / "run")
    assert len(refused) == 1


def test_a_run_killed_while_it_was_begun_is_begun_again(steady, tmp_path):
    run = steady("adam")
    for written, resume in product(range(len(BEGINNING)), (True, False)):
        out = tmp_path / f"{written}-{resume}"
        out.mkdir()
        for name in BEGINNING[:written]:
            shutil.copyfile(run.path / name, out / name)
        (out / f".{BEGINNING[written]}.{'0' * 16}.tmp").write_text("half")
        assert_same(fit(run.config, out, resume=resume), run)
        assert {p.name for p in out.iterdir()} == {p.name for p in run.path.iterdir()}


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (["entities.tsv", "relations.tsv"], "exists already"),
        (["run.json", "mine.txt"], "exists already"),
        (["run.json"], "exists already"),  # which is none of ours
        ([f".mine.{'0' * 16}.tmp"], "exists already"),
    ],
)
def test_what_may_be_a_users_is_no_run_killed_while_it_was_begun(tmp_path, theirs, message):
    for name in theirs:
        (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match=message):
        fit(tiny_config(), tmp_path)
    with pytest.raises(RunError, match="is not a run"):
        fit(tiny_config(), tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == set(theirs)


def test_sighup_stops_as_sigterm_does_but_not_under_nohup(steady, tmp_path):
    run = steady("adam")
    assert_same(stop_and_go_on(run.config, tmp_path / "run", 6, signal.SIGHUP), run)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.MonkeyPatch.context() as patch:
            before_step(patch, 6, lambda _: os.kill(os.getpid(), signal.SIGHUP))
            assert_same(fit(run.config, tmp_path / "nohup"), run)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_is_not_held_and_handlers_come_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def twice(_: Any) -> None:
        interrupt()
        interrupt()

    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 6, twice)
        with pytest.raises(KeyboardInterrupt) as caught:
            fit(tiny_config(), tmp_path / "run")
    assert not isinstance(caught.value, Interrupted)
    assert load_tensors(tmp_path / "run" / LAST)[1]["step"] == STEPS_AN_EPOCH
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_training_in_another_thread(steady, tmp_path):
    run = steady("adam")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            fit(run.config, tmp_path / "run")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert_same(Run.open(tmp_path / "run"), run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update(monkeypatch, tmp_path, value):
    seen: list[tuple[Updater, dict[str, Tensor]]] = []

    def note(self: Any) -> None:
        seen.append((self, {k: t.clone() for k, t in self.model.state_dict().items()}))
        monkeypatch.setattr(objectives, "entity_loss", lambda *args: entity_loss(*args) * value)

    before_step(monkeypatch, 7, note)
    message = r"the loss is (nan|inf) at step 7 \(epoch 2\); the update was not made. Remedy: "
    with pytest.raises(TrainingError, match=message):
        fit(tiny_config(), tmp_path / "run")
    [(caught, before)] = seen
    after = caught.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert "failed: TrainingError: the loss is" in (tmp_path / "run" / LOG).read_text()
    assert load_tensors(tmp_path / "run" / LAST)[1]["step"] == STEPS_AN_EPOCH


def with_valid_mrrs(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Make the validations return these values, one after another."""
    coming = iter(values)

    def found(*args: Any) -> Any:
        result = evaluate_model(*args)
        both = result.filtered["both"]
        metrics = both["realistic"] | {"mrr": next(coming)}
        filtered = result.filtered | {"both": both | {"realistic": metrics}}
        return replace(result, filtered=filtered)

    monkeypatch.setattr(trainer, "evaluate_model", found)


def test_patience_stops_and_the_best_weights_stay(monkeypatch, tmp_path):
    whole = fit(tiny_config(epochs=2, lr_schedule="constant"), tmp_path / "two")
    with_valid_mrrs(monkeypatch, [0.1, 0.4, 0.3, 0.4, 0.9])
    run = fit(tiny_config(epochs=9, patience=2, lr_schedule="constant"), tmp_path / "run")
    assert [row["epoch"] for row in run.history()] == [1, 2, 3, 4]  # 0.4 again is no better
    tensors, state = load_tensors(run.path / BEST)
    assert state == {"epoch": 2}
    expected = load_tensors(whole.path / LAST)[0]
    assert all(torch.equal(t, expected[f"model.{name}"]) for name, t in tensors.items())
    # Resumed, it stays stopped.
    assert len(fit(run.config, run.path, resume=True).history()) == 4


def test_patience_counts_from_the_last_best(monkeypatch, tmp_path):
    with_valid_mrrs(monkeypatch, [0.1, 0.05, 0.2, 0.1, 0.3, 0.3, 0.3, 0.9])
    run = fit(tiny_config(epochs=8, patience=2), tmp_path / "run")
    assert len(run.history()) == 7


def settings_of(**training: Any) -> TrainingConfig:
    return tiny_config(**training).training


def test_learning_rates():
    linear = settings_of(learning_rate=0.1, warmup_steps=4, lr_schedule="linear")
    assert [learning_rate(linear, step, 10) for step in range(10)] == pytest.approx(
        [0.025, 0.045, 0.06, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
    )
    cosine = settings_of(learning_rate=0.1, warmup_steps=0, lr_schedule="cosine")
    assert [learning_rate(cosine, step, 4) for step in range(4)] == pytest.approx(
        [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))]
    )
    none = settings_of(learning_rate=0.1, warmup_steps=2, lr_schedule="constant")
    assert [learning_rate(none, step, 4) for step in range(4)] == [0.05, 0.1, 0.1, 0.1]


def test_the_rate_of_each_step_is_the_schedules(monkeypatch, tmp_path):
    config = tiny_config(lr_schedule="cosine", warmup_steps=3)
    rates: list[float] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: Any) -> Any:
        (rate,) = {group["lr"] for group in self.param_groups}
        rates.append(rate)
        return original(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run = fit(config, tmp_path / "run")
    total = 4 * STEPS_AN_EPOCH
    assert rates == [learning_rate(config.training, step, total) for step in range(total)]
    assert history(run)["learning_rate"].tolist() == rates[STEPS_AN_EPOCH - 1 :: STEPS_AN_EPOCH]


@pytest.mark.parametrize(
    "training",
    [
        {"loss": loss, "training": training}
        for loss in ("softmax", "bce")
        for training in ("1vsAll", "KvsAll")
    ]
    + [
        {"training": "1vsAll_unmasked"},
        {"precision": "bfloat16"},
        {"label_smoothing": 0.1},
        {"path_query_ratio": 1.0, "max_path_length": 4},
        {"walk_ratio": 0.5},
        {"remove_target_edges": "none"},
        {"optimizer": "adamw", "max_grad_norm": 1.0},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_it_learns(tmp_path, training):
    config = tiny_config(
        dim=16, epochs=50, validate_every=10, learning_rate=0.03, lr_schedule="constant",
        input_dropout=0.0, output_dropout=0.0, **training,
    )  # fmt: skip
    dataset = replace(ring(), valid=ring().train)  # so that the history is about train
    run = fit(config, tmp_path / "run", dataset)
    losses = history(run)["loss"].tolist()
    assert losses[-1] < losses[0]
    chance = sum(1 / rank for rank in range(1, dataset.num_entities + 1)) / dataset.num_entities
    times = 2 if training.get("loss") == "bce" else 3  # bce, of few targets, is slow to learn
    assert history(run)["valid_mrr"].tolist()[-1] > times * chance
    assert evaluate_model(run.model(dataset).scorer(), dataset, "train").mrr > times * chance


@pytest.mark.parametrize("encoder", [{"layers": 0}, {"num_blocks": 4}, {"layers": 2}], ids=str)
def test_every_encoder_trains_and_resumes(tmp_path, encoder):
    config = tiny_config(encoder=encoder, epochs=2)
    whole = fit(config, tmp_path / "whole")
    assert_same(stop_and_go_on(config, tmp_path / "run", 3), whole)


def test_without_walks_nothing_of_them_is_in_the_weights(tmp_path):
    plain, walking = (
        fit(tiny_config(epochs=1, walk_ratio=ratio), tmp_path / f"{ratio}") for ratio in (0.0, 0.5)
    )
    more = weights(walking, BEST).keys() - weights(plain, BEST).keys()
    assert more
    assert all(name.startswith("decoder.walks.") for name in more)


def test_walks_are_learned(tmp_path):
    config = tiny_config(
        dim=16, epochs=20, validate_every=20, learning_rate=0.01, lr_schedule="constant",
        walk_ratio=1.0, input_dropout=0.0, output_dropout=0.0,
    )  # fmt: skip
    run = fit(config, tmp_path / "run")
    model = run.model(ring())
    assert isinstance(model, OnePathModel)
    table = perplexity(model.reader(), ring(), "valid", max_length=3, count=300, seed=0).table
    found = table[table["steps"] == "all"].set_index("by")
    # Around the ring a relation tells the next entity, and all relations are as likely.
    assert found["entity"]["model"] < 0.4 * found["entity"]["uniform"]
    assert found["both"]["model"] < 0.4 * found["both"]["uniform"]


@pytest.mark.parametrize("remove", ["edge", "none"])
def test_the_edges_of_walks_carry_no_message_while_they_are_asked_for(monkeypatch, remove):
    config, dataset = tiny_config(walk_ratio=1.0, remove_target_edges=remove), ring()
    model = build_model(config, dataset)
    assert isinstance(model, OnePathModel)
    asked: list[Any] = []
    hidden: list[Any] = []
    states, sampled = model.states, WalkSampler.walks

    def watch(edges: Any = None) -> Any:
        hidden.append(edges)
        return states(edges)

    def note(self: Any, *args: Any) -> Any:
        asked.append(sampled(self, *args))
        return asked[-1]

    monkeypatch.setattr(model, "states", watch)
    monkeypatch.setattr(WalkSampler, "walks", note)
    made = factory.make_objective(config, model, dataset)
    made.loss(made.order(0, 0)[:8])
    assert (hidden == [None]) is (remove == "none")
    if remove == "edge":
        assert len(asked[0].length) == 8
        assert set(asked[0].edge[asked[0].taken].tolist()) <= set(hidden[0].tolist())


def test_nothing_of_test_is_in_the_weights(steady, tmp_path):
    run, dataset = steady("adam"), ring()
    moved = replace(dataset, test=dataset.test.flip(1))
    other = fit(run.config, tmp_path / "run", moved)
    assert_same(other, run)
    assert other.read_info()["fingerprint"] != run.read_info()["fingerprint"]
    valid_moved = replace(dataset, valid=dataset.valid.flip(0)[:4])
    third = fit(run.config, tmp_path / "third", valid_moved)
    assert history(third)["valid_mrr"].tolist() != history(run)["valid_mrr"].tolist()
    assert history(third)["loss"].tolist() == history(run)["loss"].tolist()


def test_what_a_run_leaves(steady):
    run = steady("adam")
    assert sorted(path.name for path in run.path.iterdir()) == [
        "best.safetensors", "config.toml", "entities.tsv", "history.tsv", "last.safetensors",
        "previous.safetensors", "relations.tsv", "run.json", "train.log",
        "triples.safetensors",
    ]  # fmt: skip
    table = pd.read_csv(run.path / HISTORY, sep="\t")
    assert list(table) == [
        "epoch", "step", "seconds", "loss", "learning_rate", "valid_mrr", "valid_mr", "valid_gmr",
        "valid_amr", "valid_amri", "valid_hits@1", "valid_hits@3", "valid_hits@10",
    ]  # fmt: skip
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["step"].tolist() == [4, 8, 12, 16]
    assert bool(table["seconds"].is_monotonic_increasing)
    assert [row["epoch"] for row in run.history()] == [1, 2, 3, 4]
    log = (run.path / LOG).read_text()
    assert "4 steps per epoch, 4 epochs, products in torch.float32" in log
    assert "epoch 4: loss " in log
    assert "finished after" in log


def test_the_log_tells_of_a_stop(tmp_path):
    run = stop_and_go_on(tiny_config(), tmp_path / "run", 6)
    log = (run.path / LOG).read_text()
    assert log.index("stopped after step 6; saved") < log.index("resumed at step 6")
    assert "failed" not in log


def test_training_prints_nothing_but_its_progress(monkeypatch, tmp_path, capfd):
    fit(tiny_config(epochs=1), tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    train(tiny_config(epochs=2), ring(), tmp_path / "loud")
    out, err = capfd.readouterr()
    assert out == ""
    assert "validation after epoch 1: " in err
    assert "epoch 2 of 2: 100%" in err
    assert "valid_mrr=" in err


def test_off_a_terminal_it_prints_a_line_a_minute_and_each_validation(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(progress, "is_watched", lambda: False)
    train(tiny_config(epochs=2), ring(), tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == ""
    line = r"epoch {}: loss \d\.\d{{4}}, valid MRR 0\.\d{{4}}, best 0\.\d{{4}}, \d+ s"
    lines = err.splitlines()
    assert [bool(re.fullmatch(line.format(i + 1), lines[i])) for i in range(2)] == [True, True]
    assert len(lines) == 2
    monkeypatch.setattr(progress, "EVERY", 0.0)  # as if each step took a minute
    train(tiny_config(epochs=1), ring(), tmp_path / "slow")
    lines = capfd.readouterr().err.splitlines()
    assert re.fullmatch(
        r"epoch 1 of 1: step 1 of 4 \(25 %\), loss \d\.\d{3}, \d:\d\d so far", lines[0]
    )
    assert re.search(r"step 2 of 4 \(50 %\), .* so far, \d:\d\d left", lines[1])


@pytest.mark.parametrize(("remove", "dropout"), [("edge", 0.0), ("edge", 0.3), ("pair", 0.0)])
def test_all_paths_train_and_resume(tmp_path, remove, dropout):
    config = all_paths_config(remove_target_edges=remove, edge_dropout=dropout)
    whole = fit(config, tmp_path / "whole")
    assert load_tensors(whole.path / LAST)[1]["step"] == 4 * STEPS_AN_EPOCH
    for step in (1, 6, 16):
        assert_same(stop_and_go_on(config, tmp_path / f"{step}", step), whole)


@pytest.mark.parametrize("edges_a_part", [1, 1 << 21])
@pytest.mark.parametrize("make", [all_paths_config, tiny_config])
def test_a_step_is_the_optimisers_on_the_mean_loss(tmp_path, monkeypatch, make, edges_a_part):
    """For any number of parts, and for any memory layout of their gradients."""
    monkeypatch.setattr("kgtool.models.all_paths.PART_EDGES", edges_a_part)
    dataset, config = ring(), make(optimizer="adamw", lr_schedule="constant", warmup_steps=1)
    mine, plain = (Updater(config, dataset, tmp_path / OWNERS) for _ in range(2))
    optimizer = torch.optim.AdamW(
        plain.parameters, lr=config.training.learning_rate, weight_decay=0, fused=False
    )
    for seed in range(3):
        rows = mine.objective.order(seed, 0)[: mine.objective.batch_size]
        torch.manual_seed(seed)
        loss = mine.make_step(rows)
        torch.manual_seed(seed)
        losses = [plain.objective.loss(part) for part in plain.objective.parts(rows)]
        mean = torch.stack([loss for loss, _ in losses]).sum() / sum(n for _, n in losses)
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        assert loss == pytest.approx(mean.item(), rel=1e-4)
    for one, other in zip(mine.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("start", ["embedding", "relations"])
def test_all_paths_with_an_encoder_train_and_resume(tmp_path, start):
    config = all_paths_config(encoder={"entity_init": start})
    whole = fit(config, tmp_path / "whole")
    assert_same(stop_and_go_on(config, tmp_path / "again", 6), whole)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_paths_learn_a_rule(tmp_path, precision):
    config = all_paths_config(
        epochs=40,
        validate_every=20,
        learning_rate=0.02,
        lr_schedule="constant",
        precision=precision,
    )
    run = fit(config, tmp_path / "run")
    assert history(run)["valid_mrr"].tolist()[-1] > 0.6
    assert evaluate_model(run.model(ring()).scorer(), ring(), "test").mrr > 0.6
