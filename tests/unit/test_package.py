"""The names of the package, as a notebook completes and shows them."""

from __future__ import annotations

import pandas as pd
import pytest

import kgtool
from kgtool.display import ROWS, html
from tests.support.runs import ring, tiny_config


def test_dir_shows_the_public_names_only() -> None:
    assert dir(kgtool) == sorted(kgtool.__all__)
    assert all(hasattr(kgtool, name) for name in kgtool.__all__)
    assert {"open", "history", "dataset"} <= set(dir(kgtool.Run))
    assert {"to_frame", "split", "graph"} <= set(dir(kgtool.KGDataset))
    with pytest.raises(AttributeError, match="no attribute 'trian'") as caught:
        kgtool.trian  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("trian", kgtool)  # for Python's suggestion


def test_a_table_has_no_more_rows_than_a_screen() -> None:
    frame = pd.DataFrame({"a": range(1000), "b": ["<i>"] * 1000, "c": [0.123456789] * 1000})
    page = html("<title>", frame, {"path": "a & b", "none": None, "on": True})
    assert page.count("<tr>") == 1 + ROWS + 3
    assert f"and {1000 - ROWS} more" in page
    for text in ("&lt;title&gt;", "&lt;i&gt;", "a &amp; b", "0.1235"):
        assert text in page
    assert "color" not in page  # the notebook has a light or a dark theme


def test_a_configuration_is_short_to_look_at() -> None:
    assert repr(kgtool.Config()) == "Config()"
    config = tiny_config(dim=16)
    assert repr(config).startswith("Config(seed=7, dim=16, ")
    assert "training.epochs=4" in repr(config)
    assert len(repr(config)) < 500
    assert "<td" in config._repr_html_()
    assert "training.learning_rate" in config._repr_html_()


def test_what_a_notebook_shows_is_short(tmp_path) -> None:
    data = kgtool.split(ring().to_frame(), valid=0.2, test=0.2)
    run = kgtool.train(tiny_config(epochs=1), data, tmp_path / "run", progress=False)
    predictor = kgtool.open_predictor(run)
    shown = {
        "data": data,
        "run": run,
        "result": kgtool.evaluate(run),
        "evaluation": kgtool.evaluate(run).evaluation,
        "relations": kgtool.evaluate_relations(run),
        "triples": kgtool.evaluate_triples(run),
        "predictor": predictor,
        "labels": predictor.labels,
        "scorer": predictor.dataset.vocabulary,
        "division": kgtool.split(data, tmp_path / "kg"),
        "read": kgtool.read_triples(tmp_path / "kg" / "train.txt"),
        "report": kgtool.convert(tmp_path / "kg", tmp_path / "again")[0],
    }
    for name, value in shown.items():
        assert len(repr(value)) < 500, name
        assert len(getattr(value, "_repr_html_", str)()) < 5000, name
    assert repr(run) == f"Run({str(run.path)!r}: one path, dim 8, 24 entities, 3 relations)"
    assert f"{run.history()[0]['valid_mrr']:.4f} after epoch 1" in run._repr_html_()
    assert f"MRR {shown['result'].mrr:.4f}, Hits@1 " in repr(shown["result"])
    for name in ("result", "relations", "triples"):
        frame = shown[name].to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame)
    realistic = shown["result"].to_frame().query("side == 'both' and ties == 'realistic'")
    assert realistic["mrr"].item() == shown["result"].mrr
    count = shown["division"].table["triples"][0]
    assert len(shown["read"].to_frame()) == len(shown["read"]) == count
    begun = kgtool.Run.create(tmp_path / "begun", tiny_config(), ring())
    assert "best valid MRR" not in begun._repr_html_()
