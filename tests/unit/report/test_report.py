"""The report of a run: complete, safe, and with the numbers of the files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import kgtool
from kgtool.errors import DataError, RunError
from kgtool.inference.svg import DARK
from kgtool.report.names import clean
from kgtool.report.words import describe_model, duration
from kgtool.runs.run import Run
from kgtool.storage.tables import load_table, save_table
from tests.support.pages import NASTY, SECTIONS, Page, evaluated, nasty_ring
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder


@pytest.fixture(scope="module")
def one_path(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("one"), nasty_ring(), tiny_config(epochs=2))


@pytest.fixture(scope="module")
def all_paths(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("all"), nasty_ring(), all_paths_config(epochs=2))


@pytest.fixture(scope="module")
def pages(one_path: Run, all_paths: Run) -> dict[str, str]:
    return {
        name: kgtool.report(run).read_text(encoding="utf-8")
        for name, run in (("one", one_path), ("all", all_paths))
    }


@pytest.fixture
def copy(one_path: Run, tmp_path: Path) -> Path:
    """A copy of the run's folder that tests may change."""
    return Path(shutil.copytree(one_path.path, tmp_path / "run"))


@pytest.mark.parametrize("name", ["one", "all"])
def test_every_section_is_there(pages, name):
    page = Page(pages[name])
    ids = page.values("id")
    assert [i for i in ids if i in SECTIONS] == list(SECTIONS)
    assert len(set(ids)) == len(ids)
    links = [link for link in page.values("href") if link.startswith("#") and link[1:] in SECTIONS]
    assert [link[1:] for link in links] == list(SECTIONS)
    labels = page.values("aria-label")
    for chart in ("MRR on valid", "MRR by relation", "MRR by cardinality", "Histogram"):
        assert any(label.startswith(chart) for label in labels), chart
    # A model of paths alone has no embeddings to show.
    assert any(label.startswith("Map of") for label in labels) == (name == "one")
    assert ("reads paths alone and has no embeddings" in pages[name]) == (name == "all")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("article") >= 5
    graphs = [a for tag, a in page.tags if tag == "svg" and a.get("class") == "graph"]
    assert bool(graphs) == (name == "all")


@pytest.mark.parametrize("name", ["one", "all"])
def test_it_is_self_contained(pages, name):
    page = Page(pages[name])
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<)]*", pages[name])) <= namespaces
    for attribute in ("href", "src", "xlink:href", "data", "action", "srcset", "poster"):
        assert all(value.startswith(("#", "data:,")) for value in page.values(attribute))
    tags = {tag for tag, _ in page.tags}
    assert tags & {"script", "iframe", "object", "embed", "img", "base", "form"} == set()
    assert not re.search(r"@import|url\((?!#)", pages[name])
    ids = set(page.values("id"))
    assert set(re.findall(r"url\(#([^)]+)\)", pages[name])) <= ids
    assert {link[1:] for link in page.values("xlink:href")} <= ids
    policy = next(a for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["one", "all"])
def test_labels_are_text(pages, name):
    page = Page(pages[name])
    assert not any(a.startswith("on") for _, attrs in page.tags for a in attrs)
    for label in NASTY[:3]:
        assert label not in pages[name]
    # What is shown of them is what they are, but for characters no page can show.
    assert any(label in page.text for label in NASTY)
    assert "49" not in re.findall(r"\{\{.*?\}\}", page.text)
    assert "<h1><bdi>data" in pages[name]
    assert "<i>r</i>" in page.text
    assert "$r^2$" in page.text  # in the plot too, not as a formula
    assert "\x01" not in pages[name]
    assert "{{ 7 * 7 }}" in page.text or "7 * 7" not in page.text


def test_the_numbers_are_those_of_the_files(one_path, pages):
    page = Page(pages["one"])
    metrics = json.loads((one_path.path / "metrics.test.json").read_text())
    main = metrics["both"]["realistic"]
    assert f"MRR{main['mrr']:.4f}" in page.text.replace(" ", "")
    for table, part, ties in (
        ("Filtered metrics", metrics, ("realistic", "optimistic", "pessimistic")),
        ("Raw metrics", metrics["raw"], ("realistic",)),
    ):
        _, *rows = page.tables[table]
        assert [row[:2] for row in rows] == [
            [side, policy] for side in ("both", "head", "tail") for policy in ties
        ]
        for side, policy, mrr, _, *rest in rows:
            own = part[side][policy]
            assert mrr == f"{own['mrr']:.4f}"
            assert rest == [
                *(f"{own[f'hits@{k}']:.3f}" for k in (1, 3, 10)),
                f"{own['mr']:,.1f}", f"{own['gmr']:.2f}", f"{own['amr']:.4f}",
                f"{own['amri']:.4f}",
            ]  # fmt: skip


def test_breakdowns_are_those_of_the_file(one_path, pages):
    page = Page(pages["one"])
    table = load_table(one_path.path / "breakdown.test.tsv")
    rows = table[(table["filter"] == "filtered") & (table["ties"] == "realistic")]
    titles = {
        "Metrics by relation": "relation", "Cardinality": "category",
        "Degree of the answer": "degree", "Distance": "distance",
        "Seen and unseen entities": "entities",
        "Edges of the query’s relation (half-links)": "half_links",
    }  # fmt: skip
    for title, by in titles.items():
        own = rows[rows["by"] == by].set_index(["group", "side", "metric"])
        _, *shown = page.tables[title]
        assert {row[0] for row in shown} == set(own.index.get_level_values(0))
        for group, queries, mrr, _, ends, head, tail, *hits in shown:
            both = own.loc[(group, "both", "mrr")]
            assert queries == f"{int(both['queries']):,}"
            assert mrr == f"{float(both['value']):.4f}"
            assert ends == f"{float(both['low']):.3f}–{float(both['high']):.3f}"
            for side, cell in (("head", head), ("tail", tail)):
                key = (group, side, "mrr")
                assert cell == (f"{float(own.loc[key]['value']):.3f}" if key in own.index else "–")
            assert hits == [
                f"{float(own.loc[(group, 'both', f'hits@{k}')]['value']):.3f}" for k in (1, 3, 10)
            ]
    counts = [int(row[1]) for row in page.tables["Metrics by relation"][1:]]
    assert counts == sorted(counts, reverse=True)


def test_half_links_are_explained_and_shown_per_prediction(one_path, pages):
    page = Page(pages["one"])
    note = "have an edge of the query’s relation in train (Gregucci et al. 2026)."
    assert f"Which of the answer and the question’s entity {note}" in page.text
    names = set(load_table(one_path.path / "ranks.test.tsv")["half_links"])
    shown = re.findall(r"Category .*? half-links ([a-z ]+)\.", page.text)
    assert shown
    assert set(shown) <= names


def test_files_from_before_half_links_give_a_page(copy):
    ranks, groups = copy / "ranks.test.tsv", copy / "breakdown.test.tsv"
    save_table(load_table(ranks).drop(columns="half_links"), ranks)
    table = load_table(groups)
    save_table(table[table["by"] != "half_links"], groups)
    page = Page(kgtool.report(copy).read_text(encoding="utf-8"))
    assert "Seen and unseen entities" in page.tables
    assert "half-links" not in page.text


@pytest.mark.parametrize("name", ["one", "all"])
def test_a_summary_stands_at_the_top(one_path, all_paths, pages, name):
    run = {"one": one_path, "all": all_paths}[name]
    main = json.loads((run.path / "metrics.test.json").read_text())["both"]["realistic"]
    text = Page(pages[name]).text
    text = Page(pages[name]).text
    first = re.search(
        r"For (all|none|[\d.]+ %) of the 16 questions about test triples of data, the right answer "
        r"is the first of 24 entities",
        text,
    )
    assert first
    shares = {"all": 1.0, "none": 0.0}
    share = shares.get(first[1]) if first[1] in shares else float(first[1].split()[0]) / 100
    assert share == pytest.approx(main["hits@1"], abs=5e-4)
    assert first.end() < text.index("95 % interval")
    assert first.end() < text.index("Where not to trust it")


def test_baselines_stand_next_to_the_run(one_path, pages):
    _, own, *others = Page(pages["one"]).tables["Baselines"]
    main = json.loads((one_path.path / "metrics.test.json").read_text())["both"]["realistic"]
    assert own[:2] == ["this run", f"{main['mrr']:.3f}"]
    found = kgtool.evaluate_baselines(one_path.dataset())
    assert [row[0] for row in others] == ["frequency", "inverse"]
    for name, mrr, *hits, verdict in others:
        expected = found[name].evaluation.filtered["both"]["realistic"]
        assert mrr == f"{expected['mrr']:.3f}"
        assert hits == [f"{expected[f'hits@{k}']:.3f}" for k in (1, 3, 10)]
        assert verdict in ("better", "worse", "not significantly different")


def test_the_set_up_says_how_to_train_it_again(one_path, pages):
    text = Page(pages["one"]).text
    info = one_path.read_info()
    assert f"machine{info['machine']}" in text
    assert f"seed{one_path.config.seed}" in text
    assert f"kgtool train {one_path.path / 'config.toml'} --out runs/again" in text


def test_tasks_that_were_not_run_give_their_commands(copy, tmp_path):
    tables = Page(kgtool.report(copy, out=tmp_path / "a.html").read_text("utf-8")).tables
    _, *rows = tables["Other tasks"]
    tasks = ("relations", "triples", "paths")
    assert [row[1] for row in rows] == [
        f"not evaluated: kgtool evaluate {copy} --task {task}" for task in tasks
    ]
    found = kgtool.evaluate_relations(copy)
    tables = Page(kgtool.report(copy, out=tmp_path / "b.html").read_text("utf-8")).tables
    mrr = found.evaluation.filtered["realistic"]["mrr"]
    assert tables["Other tasks"][1][1].startswith(f"MRR {mrr:.4f}, Hits@1 ")
    (copy / "relations.test.json").write_text("[]")
    with pytest.raises(RunError, match=r"relations.test.json: invalid content"):
        kgtool.report(copy)


def test_a_wrong_answer_on_top_is_not_called_false(pages):
    page = Page(pages["one"])
    answers = [row[0] for row in page.tables[""] if len(row) == 3]
    marks = {answer.rsplit(" ", 3)[1:] == ["the", "right", "answer"] for answer in answers}
    assert marks == {True, False}
    assert all(a.endswith(("the right answer", "not in the data", "model")) for a in answers)
    assert re.search(r"\d+ of 16 queries \([\d.]+ %\) have rank 1 without a tie", page.text)


def test_dark_paper_has_colours_of_its_own(pages):
    style = re.search(r"<style>(.*?)</style>", pages["one"], flags=re.DOTALL)
    assert style
    light, dark = style[1].split("@media screen and (prefers-color-scheme: dark)", 1)
    variables = set(re.findall(r"(--[a-z]+):", light))
    assert set(re.findall(r"(--[a-z]+):", dark)) == variables
    assert set(re.findall(r"var\((--[a-z]+)\)", style[1])) == variables
    # A colour of a plot that the style does not name would stay dark on dark paper.
    drawn = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", pages["one"].split("</style>")[1]))
    bright = {"#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}
    assert drawn - bright <= DARK.keys()


def test_the_data_are_counted(pages):
    rows = Page(pages["one"]).tables["Data"]
    assert [row[:3] for row in rows[1:]] == [
        ["train", "56", "24"], ["valid", "8", rows[2][2]], ["test", "8", rows[3][2]],
        ["all", "72", "24"],
    ]  # fmt: skip
    assert rows[2][3:] == ["0", "3", "0"]


def test_the_same_run_gives_the_same_page(one_path, pages, tmp_path):
    again = kgtool.report(one_path, out=tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == pages["one"]


def test_calibration_shows_where_its_table_is(copy, tmp_path):
    table = (
        "probability\tobserved\tcount\tlow\thigh\n0.1\t0.2\t30\t0.1\t0.3\n0.8\t0.7\t10\t0.5\t0.9\n"
    )
    (copy / "calibration.test.tsv").write_text(table)
    text = kgtool.report(copy, out=tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "calibration" in page.values("id")
    assert "#calibration" in page.values("href")
    assert "calibration error: 0.1000" in page.text
    assert page.tables["Calibration"][1] == ["0.100", "0.200", "0.100–0.300", "30"]


def test_labels_from_a_file_are_shown(copy, tmp_path):
    file = tmp_path / "labels.tsv"
    words = Run.open(copy).vocabulary
    lines = [f"{entity}\tthing <b> {i}\n" for i, entity in enumerate(words.entities)]
    file.write_text("".join([*lines, "$r^2$\tsquare\n"]), encoding="utf-8")
    page = Page(kgtool.report(copy, labels=file).read_text(encoding="utf-8"))
    assert "thing <b> 1" in page.text
    assert not re.search(r"\be0\d\d\b", page.text)
    assert {"$r^2$", *map(clean, words.entities)} >= set(page.values("title")) > {"$r^2$"}
    assert "square" in {row[0] for row in page.tables["Metrics by relation"]}
    file.write_text("x\ty\n")
    with pytest.raises(DataError, match="the file of names has no entity or relation"):
        kgtool.report(copy, labels=file)


@pytest.mark.parametrize("name", ["metrics.test.json", "breakdown.test.tsv", "ranks.test.tsv"])
def test_a_missing_file_says_what_makes_it(copy, name):
    (copy / name).unlink()
    with pytest.raises(
        RunError, match=rf"{name}: no such file. Remedy: run `kgtool evaluate .*run`"
    ):
        kgtool.report(copy)
    assert not (copy / name).exists()


def test_another_split_names_itself_in_the_remedy(copy):
    with pytest.raises(RunError, match=r"metrics.valid.json: no such file.*run --split valid`"):
        kgtool.report(copy, "valid")
    kgtool.evaluate(copy, "valid")
    page = Page(kgtool.report(copy, "valid").read_text(encoding="utf-8"))
    assert "valid split" in page.text
    assert "answers of train + valid do not count" in page.text


def test_another_graph_has_a_page_of_its_own(all_paths, tmp_path):
    other = write_folder(ring(), tmp_path / "elsewhere")
    for file in other.iterdir():
        text = file.read_text()
        for i, relation in enumerate(sorted(all_paths.vocabulary.relations)):
            text = text.replace(f"r{i:03}", relation)
        file.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=rf"elsewhere.test.json: no such file.*--data {other}`"):
        kgtool.report(all_paths, data=other)
    kgtool.evaluate(all_paths, data=other)
    file = kgtool.report(all_paths, data=other)
    assert file.name == "report.elsewhere.test.html"
    assert "That was on another graph of the same relations" in Page(file.read_text("utf-8")).text


def test_a_page_of_two_runs_added(all_paths, one_path, tmp_path):
    run = Path(shutil.copytree(all_paths.path, tmp_path / "first"))
    command = f"run `kgtool evaluate {run} --ensemble {one_path.path}`"
    with pytest.raises(RunError, match=re.escape(f"no such file. Remedy: {command} first")):
        kgtool.report(run, ensemble=[one_path])
    found = kgtool.evaluate(run, ensemble=[one_path])
    told = json.loads(found.metrics_file.read_text())
    # Another weight than was fitted: the scores are others, which the page finds out.
    told["with"][0]["weight"] += 1.5
    found.metrics_file.write_text(json.dumps(told))
    with pytest.raises(RunError, match="to other weights"):
        kgtool.report(run, ensemble=[one_path])
    for added in ([], [{"run": "x"}]):
        found.metrics_file.write_text(json.dumps(told | {"with": added}))
        with pytest.raises(RunError, match="invalid content"):
            kgtool.report(run, ensemble=[one_path])
    found.write()
    file = kgtool.report(run, ensemble=[one_path])
    name = one_path.path.name
    assert file.name == f"report.with-{name}.test.html"
    text = Page(file.read_text("utf-8")).text
    weight = found.about["with"][0]["weight"]
    assert f"Added: {weight} times the scores of {name} (A GRU that reads one path over" in text
    assert "explains the first run’s part" in text


def test_damaged_files_are_refused(copy):
    metrics, ranks = copy / "metrics.test.json", copy / "ranks.test.tsv"
    whole, lines = metrics.read_text(), ranks.read_text().splitlines(keepends=True)
    for change, message in (
        ({"both": {}}, "invalid content"),
        ({"sampled": {"mrr": 10**400, "hits@1": 0, "hits@3": 0, "hits@10": 0}}, "invalid content"),
        ({"dataset": {"name": "x", "fingerprint": "0"}}, "to other data"),
        (
            {"counts": {"queries": 3, "entities": 24, "unseen_triples": 0}},
            "has 16 queries, but metrics.test.json has 3",
        ),
    ):
        metrics.write_text(json.dumps(json.loads(whole) | change))
        with pytest.raises(RunError, match=message):
            kgtool.report(copy)
    metrics.write_text(whole)
    ranks.write_text("".join([lines[0].replace("score", "points"), *lines[1:]]))
    with pytest.raises(RunError, match=r"ranks.test.tsv: no column score"):
        kgtool.report(copy)
    cells = lines[2].split("\t")
    ranks.write_text(
        "".join([*lines[:2], "\t".join([*cells[:4], "first", *cells[5:]]), *lines[3:]])
    )
    with pytest.raises(RunError, match=r"ranks.test.tsv, line 3: the rank is not a number"):
        kgtool.report(copy)


def test_ranks_of_other_weights_are_refused(copy):
    ranks = copy / "ranks.test.tsv"
    frame = load_table(ranks)
    frame["score"] = frame["score"].astype(float) + 1
    frame.to_csv(ranks, sep="\t", index=False)
    with pytest.raises(RunError, match="to other weights"):
        kgtool.report(copy)


def test_the_template_is_a_file_of_the_package():
    folder = Path(kgtool.__file__).parent / "report"
    assert {"template.html", "style.css"} <= {path.name for path in folder.iterdir()}


def test_words():
    assert (
        describe_model(all_paths_config())
        == "A GRU that reads all paths of up to 3 edges from a head; 8 dims"
    )
    fed = describe_model(all_paths_config(encoder={"layers": 2}))
    assert fed.endswith("fed by an R-GCN encoder of 2 layers (2 bases); 8 dims")
    blocks = describe_model(tiny_config(encoder={"num_blocks": 2}))
    assert (
        blocks == "A GRU that reads one path over an R-GCN encoder of one layer (2 blocks); 8 dims"
    )
    assert describe_model(tiny_config(encoder={"layers": 0})).endswith(
        "over entity embeddings; 8 dims"
    )
    assert [duration(s) for s in (48, 125, 2840, 7500, 12300)] == [
        "48 s",
        "2.1 min",
        "47 min",
        "125 min",
        "3.4 h",
    ]
