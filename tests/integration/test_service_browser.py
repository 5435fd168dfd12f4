"""The service's page in headless Chromium: query, read, go back; strange labels stay text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import pytest

import kgtool
from kgtool.inference.explain import Explanation, NamedPath
from kgtool.inference.predictor import Predictor
from kgtool.service.asking import drawing_of
from tests.support.browser import BROWSER, Tab, browser_tab
from tests.support.pages import NASTY, nasty_ring
from tests.support.runs import all_paths_config, write_folder
from tests.support.services import found, served

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on the path; install it to look at pages"
)
QUIET = "document.getElementById('status').textContent === ''"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("served")
    data = write_folder(nasty_ring(), folder / "data")
    config = all_paths_config(epochs=2).model_copy(update={"data": str(data)})
    kgtool.train(config, kgtool.load_dataset(data), folder / "run", progress=False)
    (folder / "names.tsv").write_text("e012\t<b>The twelfth</b>\ne013\tThe thirteenth\n")
    predictor = kgtool.open_predictor(folder / "run", labels=folder / "names.tsv")
    predictor.prepare()
    return predictor


@pytest.fixture(scope="module")
def port(predictor: Predictor) -> Iterator[int]:
    with served(predictor) as port:
        yield port


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser_tab(tmp_path / "profile") as tab:
        tab.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.alerts = 0; window.alert = () => { window.alerts += 1; };",
        )
        yield tab


def texts(tab: Tab, selector: str) -> list[str]:
    return tab.run(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)")


def names(tab: Tab, selector: str) -> list[str]:
    """The names of answers, without their labels."""
    return tab.run(
        f"[...document.querySelectorAll({selector!r})].map((each) => each.firstChild.textContent)"
    )


def address(tab: Tab) -> dict[str, str]:
    return tab.run("Object.fromEntries(new URLSearchParams(location.search))")


def shown(tab: Tab, section: str, fields: dict[str, str]) -> None:
    """Wait for the section of the page for an address with these parameters."""
    says = "new URLSearchParams(location.search).get(k) === v"
    tab.until(f"Object.entries({fields}).every(([k, v]) => {says})")
    tab.until(f"{QUIET} && !document.getElementById({section!r}).hidden")


def test_ask_and_go_back_by_keyboard(port, tab):
    """From a search to the graph of an answer, to an entity, and all the way back."""
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until("document.getElementById('about').textContent.includes('24 entities')")
    tab.run("document.getElementById('head').focus()")
    tab.type("TWELF the")
    tab.until("document.querySelectorAll('#head-list li').length === 1")
    assert tab.run("document.getElementById('head').getAttribute('aria-expanded')") == "true"
    tab.press("Enter")
    assert tab.run("document.getElementById('head').value") == "<b>The twelfth</b>"
    tab.press("Tab")
    tab.type("$R")
    tab.until("document.querySelectorAll('#relation-list li').length === 2")  # and its inverse
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "tail"
    tab.press("Enter")
    asked = {"head": "e012", "relation": "$r^2$"}
    shown(tab, "answers", asked)
    truth = found(port, "/api/answers", **asked, limit=20)
    assert names(tab, "#known-list li") == [each["name"] for each in truth["known"]]
    assert names(tab, "#rows th, #folded th") == [each["name"] for each in truth["answers"]]
    second = truth["answers"][1]
    tab.run("document.querySelectorAll('#answers table .why')[1].click()")
    shown(tab, "why", asked | {"why": second["label"]})
    assert tab.run("!document.getElementById('folded').hidden")  # the explained row is not hidden
    nodes = "#graph a title"
    on_graph = texts(tab, nodes)
    assert "<b>The twelfth</b> (e012)" in on_graph
    paths = found(port, "/api/explanation", **second["why"], limit=8)["paths"]
    on_paths = {each["name"] for path in paths for each in path["entities"]}
    plain = [title.removesuffix(" (e012)").removesuffix(" (e013)") for title in on_graph]
    assert sorted(plain) == sorted(on_paths)  # one box an entity
    assert texts(tab, "#paths .weight") == [f"{path['weight']:.2f}" for path in paths]
    # An entity of the graph is a link to its facts, by keyboard too.
    label = second["label"]
    is_it = f"new URLSearchParams(a.getAttribute('href')).get('entity') === {label!r}"
    tab.run(f"[...document.querySelectorAll('#graph a')].find((a) => {is_it}).focus()")
    tab.press("Enter")
    shown(tab, "entity", {"entity": label})
    assert tab.run("document.getElementById('why').hidden")
    facts = found(port, "/api/facts", entity=label, limit=10)
    links = "[...document.querySelectorAll('#groups dd a')].map((a) => a.getAttribute('href'))"
    assert tab.run(links) == [
        f"?{urlencode({'entity': each['label']})}"
        for group in facts["groups"]
        for each in group["others"]
    ]
    # The name of a relation asks what else there is.
    tab.run("document.querySelector('#groups dt a').click()")
    first = facts["groups"][0]
    shown(tab, "answers", {first["side"]: label, "relation": first["relation"]["label"]})
    tab.run("history.back()")
    shown(tab, "entity", {"entity": label})
    tab.run("history.back()")
    shown(tab, "why", asked | {"why": label})
    assert texts(tab, nodes) == on_graph
    tab.run("history.back()")
    tab.until(f"document.getElementById('why').hidden && {QUIET}")
    assert names(tab, "#rows th, #folded th") == [each["name"] for each in truth["answers"]]
    tab.run("history.back()")
    tab.until("document.getElementById('answers').hidden")
    boxes = "[...document.querySelectorAll('.field input')].map((box) => box.value)"
    assert tab.run(boxes) == ["", "", ""]
    assert tab.complaints == []
    assert {url.split("/")[2] for url in tab.requested if not url.startswith("data:")} == {
        f"127.0.0.1:{port}"
    }


def test_a_first_visitor_finds_examples(port, tab):
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until("document.querySelectorAll('#examples a').length > 2")
    for i in range(len(texts(tab, "#examples a"))):
        tab.run(f"document.querySelectorAll('#examples a')[{i}].click()")
        tab.until(f"location.search && {QUIET}")
        assert tab.run("document.getElementById('start').hidden")
        assert tab.run("!document.getElementById('answers').hidden"
                       " || !document.getElementById('score').hidden")  # fmt: skip
        tab.run("history.back()")
        tab.until("!document.getElementById('start').hidden")
    tab.run("document.querySelector('#hubs a').click()")
    tab.until(f"location.search.startsWith('?entity=') && {QUIET}")
    assert "facts: " in texts(tab, "#entity-about")[0]
    assert tab.complaints == []


def test_known_answers_come_first_and_are_counted(port, tab):
    tab.open(f"http://127.0.0.1:{port}/?head=e012&tail=e013")
    shown(tab, "answers", {"head": "e012"})
    truth = found(port, "/api/answers", head="e012", tail="e013", limit=20)
    assert texts(tab, "#known-title") == [f"Known: {truth['known_count']}"]
    assert names(tab, "#known-list li") == [each["name"] for each in truth["known"]]
    assert texts(tab, "#known-list .tag") == [each["split"] for each in truth["known"]]
    above = ("document.getElementById('known').getBoundingClientRect().top"
             " < document.getElementById('new-title').getBoundingClientRect().top")  # fmt: skip
    assert tab.run(above)
    tab.run("document.querySelector('#known-list a').click()")  # a relation: the whole triple
    shown(tab, "score", {"relation": truth["known"][0]["label"]})
    tab.run("history.back()")
    shown(tab, "answers", {"head": "e012"})
    known = {each["name"] for each in truth["known"]}
    assert not known & set(names(tab, "#rows th, #folded th"))


def test_improbable_answers_are_folded(port, tab):
    tab.open(f"http://127.0.0.1:{port}/?head=e012&relation=$r^2$&any_type=true")
    shown(tab, "answers", {"head": "e012"})
    asked = {"head": "e012", "relation": "$r^2$", "any_type": True, "limit": 20}
    answers = found(port, "/api/answers", **asked)["answers"]
    low = [each["name"] for each in answers if each["probability"] < 0.01]
    assert 0 < len(low) <= len(answers)
    assert names(tab, "#folded th") == low
    assert tab.run("document.getElementById('folded').hidden")
    assert str(len(low)) in texts(tab, "#unfold")[0]
    tab.run("document.getElementById('unfold').click()")
    assert not tab.run("document.getElementById('folded').hidden")
    assert not tab.run("document.querySelector('#answers .scroll').hidden")
    values = texts(tab, "#folded .chance")
    least = [each["probability"] < 0.001 for each in answers if each["probability"] < 0.01]
    assert [value == "<0.001" for value in values] == least


def test_three_fields_are_scored_and_explained(port, tab):
    for tail, split in (("e013", "yes, in "), ("e020", "no")):
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until("document.querySelectorAll('#examples a').length > 2")
        asked = {"head": "e012", "relation": "<i>r</i>", "tail": tail}
        for place, text in asked.items():
            tab.run(f"document.getElementById({place!r}).value = {text!r}")
        tab.run("document.getElementById('question').requestSubmit()")
        shown(tab, "score", asked)
        truth = found(port, "/api/scores", **asked)
        values = texts(tab, "#facts-of-score dd")
        assert values[0] == split + (truth["split"] or "")
        assert values[-1] == f"{truth['score']:.2f}"
        assert len(values) == (3 if truth["probability"] is not None else 2)
        why = found(port, "/api/explanation", **truth["why"], limit=8)
        tab.until(f"!document.getElementById('why').hidden && {QUIET}")
        weights = [f"{path['weight']:.2f}" for path in why["paths"]]
        assert texts(tab, "#paths .weight") == weights
        carried, score = f"{why['carried']:.2f}", f"{why['score']:.2f}"
        assert f"carry {carried} of the score {score}." in texts(tab, "#total")[0]
        assert len(texts(tab, "#next a")) == 3


def test_one_field_shows_the_facts(port, tab):
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until("document.querySelectorAll('#examples a').length > 2")
    tab.run("document.getElementById('tail').value = 'The thirteenth'")
    tab.run("document.getElementById('question').requestSubmit()")
    shown(tab, "entity", {"entity": "The thirteenth"})
    assert names(tab, "#entity-name") == ["The thirteenth"]


# Each box, text and arrowhead of the graph, and which of them overlap.
OVERLAPS = """(() => {
  const all = [...document.querySelectorAll('#graph a rect, #graph .step text')].map((each) => {
    const { left, right, top, bottom } = each.getBoundingClientRect();
    return { what: each.parentNode.textContent.slice(0, 40), left, right, top, bottom };
  });
  return all.flatMap((a, i) => all.slice(i + 1).filter((b) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
  ).map((b) => [a.what, b.what]));
})()"""
DRAW = """(drawing => {
  drawPaths(document.getElementById('graph'), drawing);
  document.getElementById('why').hidden = false;
})"""


def as_drawing(ways: list[str], name: str = "{}") -> str:
    """The drawing of paths through entities of one letter each, as JSON."""
    steps = (("a_relation_with_a_long_name", 1.0), ("other", 1.0))
    paths = tuple(
        NamedPath((-1) ** i * (9 - i), tuple(way), (steps,) * (len(way) - 1))
        for i, way in enumerate(ways)
    )
    names = {letter: name.format(letter) for way in ways for letter in way}
    drawing = drawing_of(Explanation(("h", "r", "t"), paths), lambda label: names.get(label, label))
    assert drawing is not None
    return drawing.model_dump_json()


@pytest.mark.parametrize(
    "ways",
    [
        ["hat", "hbt", "habt", "hbat", "ht", "hact", "hcbdt", "habcdt"],
        ["hxh", "hyxh", "hh"],  # a loop
        ["htat", "htbt", "hat"],  # through the tail
        ["hahbt", "hat"],  # through the head again
        ["habcdefgt", "hgt", "hft", "haat"],
        [f"h{c}t" for c in "abcdefgi"],
    ],
    ids=" ".join,
)
def test_nothing_overlaps_in_a_graph(port, tab, ways):
    tab.open(f"http://127.0.0.1:{port}/")
    tab.until("document.querySelectorAll('#examples a').length > 2")
    for name in ("{}", "A_name_of_two_lines_that_is_long_{}"):
        tab.run(f"{DRAW}({as_drawing(ways, name)})")
        assert tab.run(OVERLAPS) == []
        letters = {letter for way in ways for letter in way}
        assert sorted(texts(tab, "#graph a title")) == sorted(
            f"{name.format(c)} ({c})" if name != "{}" else c for c in letters
        )
        steps = {pair for way in ways for pair in pairwise(way) if len(set(pair)) == 2}
        arrows = "document.querySelectorAll('#graph path[marker-start], #graph path[marker-end]')"
        every = {pair for way in ways for pair in pairwise(way)}  # loops, too
        assert tab.run(f"{arrows}.length") == len(every)
        assert tab.run("document.querySelectorAll('#graph .step').length") == len(steps)
        inside = """(() => {
            const graph = document.getElementById('graph');
            const { width, height } = graph.viewBox.baseVal, box = graph.getBBox();
            return box.x >= 0 && box.y >= 0 && box.x + box.width <= width + 1
                && box.y + box.height <= height + 1; })()"""
        assert tab.run(inside)
    # The check can fail.
    tab.run("document.querySelectorAll('#graph .step')[1].replaceChildren("
            "...document.querySelector('#graph .step').cloneNode(true).children)")  # fmt: skip
    assert tab.run(OVERLAPS) != [] or len(steps) < 2


def test_two_columns_on_a_wide_screen_and_one_on_a_phone(port, tab):
    sides = """(() => {
        const place = (id) => document.getElementById(id).getBoundingClientRect();
        const [a, b] = ['score', 'why'].map(place);
        return [b.left > a.right, b.top >= a.bottom]; })()"""
    for width, expected in ((1400, [True, False]), (390, [False, True])):
        tab.open(f"http://127.0.0.1:{port}/?head=e012&relation=$r^2$&tail=e013", width)
        shown(tab, "why", {"head": "e012"})
        tab.run(f"{DRAW}({as_drawing(['hat', 'hbt'])})")
        assert tab.run(sides) == expected, width
        assert tab.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_documents_page_fits(port, tab, width, dark):
    tab.open(f"http://127.0.0.1:{port}/docs", width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelectorAll('h2').length") > 9
    assert tab.complaints == []
    assert {url.split("/")[2] for url in tab.requested if not url.startswith("data:")} == {
        f"127.0.0.1:{port}"
    }


@pytest.mark.parametrize("width", [375, 1280])
def test_strange_labels_are_text_and_fit(port, tab, width):
    question = "relation=%3Ci%3Er%3C/i%3E"
    for label in NASTY[:7]:
        head = tab.run(f"encodeURIComponent({label!r})")
        tab.open(f"http://127.0.0.1:{port}/?head={head}&{question}", width)
        shown(tab, "answers", {"head": label})
        tab.run("document.querySelector('#answers .why').click()")
        tab.until(f"!document.getElementById('why').hidden && {QUIET}")
        assert tab.run("document.querySelector('#asked').firstChild.textContent") == label
        assert tab.run("innerWidth") == width
        assert tab.run("document.documentElement.scrollWidth") <= width
        inside = "document.querySelectorAll('main script, main img, main i, main td b').length"
        assert tab.run(f"[window.alerts, {inside}]") == [0, 0]
        tab.open(f"http://127.0.0.1:{port}/?entity={head}", width)
        shown(tab, "entity", {"entity": label})
        assert names(tab, "#entity-name") == [label]
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run(f"[window.alerts, {inside}]") == [0, 0]
    assert tab.complaints == []
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    tab.until("document.images.length === 1")
    assert tab.run("window.alerts") == 0  # what the policy would still forbid
    assert any("Content Security Policy" in text for text in tab.complaints)  # the check can fail


def test_errors_are_read_out(port, tab):
    tab.open(f"http://127.0.0.1:{port}/?head=nobody&relation=$r^2$")
    told = tab.until("document.querySelector('#status.error')?.textContent")
    assert told.startswith("unknown entity 'nobody'")
    assert tab.run("document.getElementById('status').getAttribute('role')") == "status"
    assert tab.run("document.getElementById('answers').hidden")
    unnamed = """[...document.querySelectorAll('input, button, [role]')].filter((each) =>
        !(each.labels?.length || each.getAttribute('aria-label') || each.textContent.trim()
          || each.id === 'status')).map((each) => each.outerHTML)"""
    assert tab.run(unnamed) == []
