"""Checks that test_process_group.py starts with torchrun; each check runs in all processes."""

from __future__ import annotations

import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kgtool.config import Config
from kgtool.data.loaders.features import features_of
from kgtool.distributed import process_group
from kgtool.distributed import sharding as shards_module
from kgtool.distributed.sharding import Shards
from kgtool.errors import RunError, ScoreError
from kgtool.evaluation.candidates import parse_candidates
from kgtool.evaluation.ensemble import fit_ensemble
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.graph import partition
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.partition import metis, shards_of
from kgtool.graph.sampling import draw_around
from kgtool.models.factory import build_model
from kgtool.models.model import OnePathModel
from kgtool.models.scorers import ShardedScorer
from kgtool.ops import rows as rows_of
from kgtool.runs.run import OWNERS, Run
from kgtool.storage.checkpoint import load_either, load_tensors, save_tensors
from kgtool.storage.files import write_json
from kgtool.training import trainer
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, ring, tiny_config

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

CONFIGS = {
    "one path": tiny_config(encoder={"layers": 1}),
    "all paths": all_paths_config(average_weights=0.3),
    "drawn": tiny_config(
        encoder={"fanout": 3},
        num_negatives=8,
        optimizer="adagrad",
        learning_rate=0.1,
        max_grad_norm=0.01,
    ),
}


def torchrun(
    count: int,
    *words: str | Path,
    options: tuple[str, ...] = (),
    meeting: str = "localhost:0",
) -> list[str]:
    """The command that starts processes on this machine, with a rendezvous address."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count),
        "--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, *options, "-m",
        *map(str, words),
    ]  # fmt: skip


def check_sums() -> None:
    rank, size = process_group.rank(), process_group.world_size()
    a, b = torch.full((2, 3), float(rank)), torch.tensor([rank, 1])
    process_group.all_reduce([a, b])
    total = size * (size - 1) // 2
    assert torch.equal(a, torch.full((2, 3), float(total)))
    assert b.tolist() == [total, size]
    assert process_group.any_rank(rank == size - 1, False) == (True, False)
    assert process_group.any_rank(False) == (False,)
    assert process_group.broadcast(torch.tensor(rank)).item() == 0
    told = [torch.full((to + 1, 2), 10 * rank + to) for to in range(size)]
    for sender, tensor in enumerate(process_group.all_to_all(told)):
        assert torch.equal(tensor, torch.full((rank + 1, 2), 10 * sender + rank))


def check_shares() -> None:
    for count in (0, 1, 7):
        shares = process_group.all_gather(torch.arange(count)[process_group.chunk(count)])
        assert torch.cat(shares).tolist() == list(range(count))
    own = torch.arange(7)[process_group.strided()]
    assert sorted(torch.cat(process_group.all_gather(own)).tolist()) == list(range(7))


def check_fetching() -> None:
    """Rows of a sharded table equal those of a whole table, and so do their gradients."""
    generator = torch.Generator().manual_seed(1)
    owner = torch.randint(process_group.world_size(), (20,), generator=generator)
    shards = Shards.of_owner(owner)
    whole = torch.randn(20, 3, dtype=torch.double, generator=generator)
    own = shards.local_rows(whole).requires_grad_()
    assert len(own) == shards.count == int(shards.is_local(torch.arange(20)).sum())
    assert torch.equal(shards.whole(own), whole)
    for piece in (shards_module.PIECE, 3):
        shards_module.PIECE = piece
        collected = shards.collect(own)
        assert torch.equal(collected, whole if process_group.rank() == 0 else whole[:0])
    asked = [torch.tensor([1, 4, 19]), torch.arange(20), torch.empty(0, dtype=torch.long)]
    table = whole.clone().requires_grad_()
    loss = table.new_zeros(())
    for i in range(process_group.world_size()):
        entity = asked[i % 3]
        weight = torch.randn(len(entity), 3, dtype=torch.double, generator=generator)
        loss = loss + (rows_of(table, entity) * weight).sum()
        if i == process_group.rank():
            mine = entity, weight
    entity, weight = mine
    found = shards.fetch(own, entity)
    assert torch.equal(found, whole[entity])
    (gradient,) = torch.autograd.grad((found * weight).sum(), own)
    (slow,) = torch.autograd.grad(loss, table)
    assert gradient.is_sparse
    assert gradient.is_coalesced()
    torch.testing.assert_close(gradient.to_dense(), shards.local_rows(slow.to_dense()))


def held_in_turn(num_entities: int) -> Shards:
    """A partition that gives each entity to the next process in turn."""
    return Shards.of_owner(in_turn(torch.empty(0), num_entities, process_group.world_size()))


def check_draws() -> None:
    """Sampled neighbourhoods do not depend on the partition of edges."""
    dataset = random_dataset(5, num_entities=30, num_train=400)
    shards = held_in_turn(30)
    whole = KnowledgeGraph.from_dataset(dataset)
    held = shards.is_local(torch.arange(30))
    own = KnowledgeGraph.from_dataset(dataset, held)
    assert own.num_edges == int(held[whole.tail].sum()) < whole.num_edges
    rank = process_group.rank()
    entity = torch.arange(30)[rank :: process_group.world_size() + 1]
    excluded = torch.arange(rank * 9, rank * 9 + 40)
    same = whole.find(own.triples(excluded))
    for part in (entity, entity[:0]) if rank else (entity, entity):
        torch.manual_seed(rank)
        near = draw_around(whole, part, 2, 3, same)
        torch.manual_seed(rank)
        far = draw_around(own, part, 2, 3, excluded, shards)
        assert torch.equal(near.entity, far.entity)
        for a, b in zip(near.hops, far.hops, strict=True):
            assert torch.equal(a.own, b.own)
            assert torch.equal(a.scale, b.scale)
            for field in ("source", "type", "offsets"):
                assert (getattr(a.edges, field) == getattr(b.edges, field)).all()


def check_spread_ranks() -> None:
    """Ranks of sharded entities equal those of one process, bit for bit."""
    dataset = random_dataset(6, num_entities=70, num_train=500)
    for layers, ties, chunk_size in ((0, False, 7), (0, True, None), (2, False, None)):
        torch.manual_seed(1)
        config = tiny_config(encoder={"layers": layers}, num_negatives=8, optimizer="adagrad")
        model = build_model(config, dataset)
        assert isinstance(model, OnePathModel)
        if ties:
            model.encoder.entities.data.round_()
        shards = held_in_turn(70)
        held = shards.is_local(torch.arange(70))
        apart = deepcopy(model)
        apart.shards = shards
        apart.graph = KnowledgeGraph.from_dataset(dataset, held)
        apart.encoder.entities.data = shards.local_rows(model.encoder.entities.data)
        apart.decoder.bias.data = shards.local_rows(model.decoder.bias.data)
        one, several = model.scorer(), apart.sharded_scorer(shards)
        torch.testing.assert_close(shards.whole(several.entities), one.entities)
        for told in ("all", "sampled:9", "sampled:60", "types"):
            among = parse_candidates(told, dataset)
            found, expected = (
                evaluate_model(
                    scorer, dataset, "valid", chunk_size=chunk_size, candidates=among
                ).ranking
                for scorer in (several, one)
            )
            for a, b in ((found.filtered, expected.filtered), (found.raw, expected.raw)):
                assert torch.equal(a.better, b.better)
                assert torch.equal(a.equal, b.equal)
                assert torch.equal(a.candidates, b.candidates)
            torch.testing.assert_close(found.score, expected.score)
            if not layers:
                assert torch.equal(found.score, expected.score)
            assert bool(expected.raw.equal.any()) == ties
        hr = dataset.valid[:5, :2]
        torch.testing.assert_close(several.score_t(hr), one.score_t(hr))
        if process_group.rank() == 1:  # an error in one process must reach all
            several.entities.data[0] = torch.nan
        with pytest.raises(ScoreError):
            evaluate_model(several, dataset, "valid")


def check_spread_features() -> None:
    """States that start from features do not depend on who holds an entity."""
    dataset = random_dataset(6, num_entities=70, num_train=500)
    vectors = torch.randn(70, 3, generator=torch.Generator().manual_seed(4)).tolist()
    given = dict(zip(dataset.vocabulary.entities[5:], vectors[5:], strict=True))
    dataset = replace(dataset, features=features_of(given))
    for init in ("embedding", "features"):
        torch.manual_seed(1)
        encoder = {"layers": 2, "entity_init": init, "features": "data"}
        config = tiny_config(encoder=encoder, num_negatives=8, optimizer="adagrad")
        model = build_model(config, dataset)
        assert isinstance(model, OnePathModel)
        shards = held_in_turn(70)
        apart = build_model(config, dataset, shards)
        assert isinstance(apart, OnePathModel)
        whole = model.state_dict()
        apart.load_state_dict(shards.local_tensors(whole, model.of_entities))
        several = apart.sharded_scorer(shards)
        torch.testing.assert_close(shards.whole(several.entities), model.scorer().entities)
        entity = torch.arange(3, 40, 4)
        states = [each.states_of(entity, 100, entity[:0])[0] for each in (model, apart)]
        torch.testing.assert_close(*states)


def check_metis(place: Path) -> None:
    dataset = random_dataset(3, num_entities=40, num_train=150)
    kept = place / "owners"
    shards = shards_of(dataset, kept)
    assert shards is not None
    assert sorted(shards.place.tolist()) == list(range(40))
    held = torch.cat(
        process_group.all_gather(shards.is_local(torch.arange(40)).long().unsqueeze(0))
    )
    assert held.sum(0).tolist() == [1] * 40
    for _ in range(20):  # METIS may abort on dense graphs with loops
        metis(random_dataset(3, num_entities=24, num_train=200).train, 24, 4)

    # A stored partition is read again for the same number of processes; else it is computed anew.
    if process_group.rank() == 0:
        owner = load_tensors(kept)[0]["owner"]
        save_tensors(kept, {"owner": owner.flip(0)}, {"processes": process_group.world_size()})
    again = shards_of(dataset, kept)
    assert again is not None
    assert torch.equal(again.is_local(torch.arange(40)), shards.is_local(torch.arange(40)).flip(0))
    if process_group.rank() == 0:
        for wrong in (owner[1:], owner + 1, owner - 1, owner.float()):
            save_tensors(kept, {"owner": wrong}, {"processes": process_group.world_size()})
            with pytest.raises(RunError, match="remove it; kgtool makes it again"):
                partition._read(kept, owner)
        kept.write_bytes(kept.read_bytes()[:-1])
        with pytest.raises(RunError, match=r"damaged.* Remedy: remove it"):
            partition._read(kept, owner)
        save_tensors(kept, {"owner": owner * 0}, {"processes": process_group.world_size() + 1})
    process_group.barrier()
    before = kept.read_bytes()
    for keep in (False, True):
        third = shards_of(dataset, kept, keep)
        assert third is not None
        assert 0 < third.count < 40
        assert (kept.read_bytes() == before) == (not keep)
        process_group.barrier()


def in_turn(triples: Tensor, num_entities: int, parts: int) -> Tensor:
    """Replaces METIS, whose result may differ the next time."""
    return torch.arange(num_entities) % parts


def in_a_row(triples: Tensor, num_entities: int, parts: int) -> Tensor:
    """Another possible result of METIS."""
    return in_turn(triples, num_entities, parts).sort().values


def weights(run: Run) -> dict[str, Tensor]:
    return dict(run.model(ring()).named_parameters())


def check_training(place: Path) -> None:
    """All processes end with the same weights, and a resumed run equals an uninterrupted one."""
    for name, config in CONFIGS.items():
        run = train(config, ring(), place / name, progress=False)
        process_group.barrier()  # the first process has written
        model = run.model(ring())
        for parameter in model.parameters():
            assert torch.equal(process_group.broadcast(parameter.detach().clone()), parameter)
        found = evaluate_model(model.scorer(), ring(), "valid")
        assert abs(found.mrr - max(row["valid_mrr"] for row in run.history())) < 0.02
        check_resuming(config, run, place / f"{name}, stopped")


def slowly(path: Path, before: Path) -> Any:
    """Read a checkpoint so late that a process without a barrier would have written the next."""
    time.sleep(0.5 * (process_group.rank() > 0))
    found = load_either(path, before)
    path.parent.with_suffix(f".read-{process_group.rank()}").touch()
    return found


def save_after_all(path: Path, *about: Any, **more: Any) -> None:
    """Write a checkpoint after all processes have read the one before."""
    read = list(path.parent.parent.glob(f"{path.parent.name}.read-*"))
    assert len(read) == process_group.world_size(), read
    save_tensors(path, *about, **more)


def check_resuming(config: Config, whole: Run, place: Path) -> None:
    original = Updater.make_step

    def step(self: Any, rows: Tensor) -> float:
        if self.step == 6:
            raise KeyboardInterrupt
        return original(self, rows)

    Updater.make_step = step  # type: ignore[method-assign]
    try:
        train(config, ring(), place, progress=False)
        raise AssertionError("not stopped")
    except KeyboardInterrupt:
        pass
    finally:
        Updater.make_step = original  # type: ignore[method-assign]
    process_group.barrier()
    partition.metis = in_a_row
    trainer.load_either = slowly  # type: ignore[attr-defined]
    trainer.save_tensors = save_after_all  # type: ignore[attr-defined]
    resumed = train(config, ring(), place, resume=True, progress=False)
    partition.metis = in_turn
    trainer.load_either = load_either  # type: ignore[attr-defined]
    trainer.save_tensors = save_tensors  # type: ignore[attr-defined]
    process_group.barrier()
    a, b = weights(whole), weights(resumed)
    first, second = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in each.history()]
        for each in (whole, resumed)
    )
    assert first == second, place
    for name in a:
        assert torch.equal(a[name], b[name]), f"{place}: {name}"


def check_steps(place: Path) -> None:
    """Replicated weights stay equal bit for bit, with clipped gradients, also of sharded rows."""
    for name, config in CONFIGS.items():
        one = Updater(config, ring(), place / name / OWNERS)
        for rows in one.batches(one.objective.order(config.seed, 0)):
            one.make_step(rows)
            one.step += 1
        for parameter in one.dense:
            assert torch.equal(process_group.broadcast(parameter.detach().clone()), parameter), name


def check_sum_of_models(place: Path) -> None:
    """Several processes choose the same weight for another run's scores as one process."""
    models = [Run.open(place / name).model(ring()).scorer() for name in ("one path", "all paths")]
    found = fit_ensemble(models[0], models[1], ring())
    if process_group.rank() == 0:
        write_json(place / "ensemble.json", list(found.mrr.values()))


def check_ranks(place: Path) -> None:
    """For the same weights, several processes compute exactly the ranks of one process."""
    for name, config in CONFIGS.items():
        run = Run.open(place / name)
        scorer = run.distributed_scorer(ring())
        assert isinstance(scorer, ShardedScorer) == config.samples_negatives
        for told in ("all", "sampled:5", "types"):
            among = parse_candidates(told, ring())
            found = evaluate_model(scorer, ring(), "test", chunk_size=3, candidates=among)
            if process_group.rank() == 0:
                ranks = found.ranking.filtered
                torch.save(
                    [ranks.better, ranks.equal, ranks.candidates, found.ranking.score],
                    place / f"{name}.{told}.ranks",
                )


def main(place: Path) -> None:
    with process_group.joined_group():
        assert process_group.world_size() > 1
        check_sums()
        check_shares()
        check_fetching()
        check_draws()
        check_spread_ranks()
        check_spread_features()
        check_metis(place)
        partition.metis = in_turn
        check_training(place)
        check_steps(place)
        check_sum_of_models(place)
        check_ranks(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
