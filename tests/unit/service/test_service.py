"""The service: the same answers as in Python; no request breaks it; it only reads."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kgtool
from kgtool.data.dataset import Vocabulary
from kgtool.data.labels import LabelIndex
from kgtool.errors import KGToolError, ScoreError
from kgtool.inference.predictor import Predictor
from kgtool.ops.runtime import progress
from kgtool.service import serving
from kgtool.service.asking import Asking
from kgtool.service.desk import Desk
from kgtool.service.failures import NOBODY, failures
from kgtool.service.search import EntitySearch
from tests.support.pages import Page, nasty_ring
from tests.support.places import ROOT
from tests.support.runs import (
    STEPS,
    all_paths_config,
    in_memory,
    ring,
    tiny_config,
    write_folder,
)
from tests.support.services import found, posted, raw, refusal, reply, served

# Threads add up in orders of their own.
near = partial(pytest.approx, rel=1e-4, abs=1e-6)
NAMES = (
    "e000\tZürich\ne001\tNew York\ne002\tnew york state\ne003\tYork\ne004\tYork\nr000\tnext to\n"
    "e020\tTwenty\n"
)


def _run(folder: Path, config, dataset=None) -> Predictor:
    data = write_folder(dataset or ring(), folder / "data")
    config = config.model_copy(update={"data": str(data)})
    kgtool.train(config, kgtool.load_dataset(data), folder / "run", progress=False)
    (folder / "names.tsv").write_text(NAMES, encoding="utf-8")
    predictor = kgtool.open_predictor(folder / "run", labels=folder / "names.tsv")
    predictor.prepare()
    return predictor


@pytest.fixture(scope="module")
def all_paths(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return _run(tmp_path_factory.mktemp("all"), all_paths_config(epochs=2))


@pytest.fixture(scope="module")
def one_path(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return _run(tmp_path_factory.mktemp("one"), tiny_config(epochs=1))


@pytest.fixture(scope="module")
def port(all_paths: Predictor) -> Iterator[int]:
    with served(all_paths) as port:
        yield port


@pytest.fixture(scope="module")
def one_path_port(one_path: Predictor) -> Iterator[int]:
    with served(one_path) as port:
        yield port


def test_about(port, one_path_port):
    about = found(port, "/api/about")
    assert about == {
        "run": "run", "data": "data", "entities": 24, "relations": 3,
        "train": 56, "valid": 8, "test": 8, "assumed_missing": 16,
        "probabilities": True, "explains": True, "version": kgtool.__version__,
    }  # fmt: skip
    assert found(one_path_port, "/api/about")["explains"] is False


def test_relations(port):
    assert found(port, "/api/relations") == [
        {"label": "r000", "name": "next to", "facts": 24},
        {"label": "r001", "name": "r001", "facts": 24},
        {"label": "r002", "name": "r002", "facts": 24},
    ]


def labels(port: int, **query: Any) -> list[str]:
    return [each["label"] for each in found(port, "/api/entities", **query)]


def test_entities_by_label_and_name(port):
    assert labels(port, q="e00", limit=3) == ["e000", "e001", "e002"]
    assert labels(port, q="NEW york") == ["e001", "e002"]
    assert labels(port, q="york") == ["e003", "e004", "e001", "e002"]  # beginnings first
    assert labels(port, q="york", limit=3) == ["e003", "e004", "e001"]
    assert labels(port, q="ZÜR") == ["e000"]
    assert labels(port, q="nowhere") == labels(port, q="e000\ne001") == []
    assert len(labels(port)) == 10
    assert found(port, "/api/entities", q="zürich") == [
        {"label": "e000", "name": "Zürich", "facts": 6}
    ]


def slow_search(labels: LabelIndex, degree: list[int], typed: str, limit: int) -> list[int]:
    def folded(text: str) -> str:
        return text.casefold().replace("_", " ")

    typed, ranked = folded(typed).strip(), []
    for i, label in enumerate(labels.vocabulary.entities):
        parts = [folded(text) for text in (labels.names.get(label, label), label)]
        text = " ".join(parts)
        if not all(word in text for word in typed.split()):
            continue
        begun = [re.search(rf"(?<![^\W_]){re.escape(word)}", text) for word in typed.split()]
        kind = 0 if any(part.startswith(typed) for part in parts) else 1 if all(begun) else 2
        ranked.append((kind, -degree[i], label, i))
    return [i for *_, i in sorted(ranked)][:limit]


@given(
    st.lists(st.text("abAß_ ", min_size=1, max_size=6), unique=True, min_size=1, max_size=12),
    st.lists(st.text("abAß_ ", min_size=1, max_size=6), max_size=12),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.text("abA ß_", max_size=4),
    st.integers(1, 6),
)
def test_the_search_finds_what_a_loop_finds(entities, names, degree, typed, limit):
    readable = dict(zip(entities, names, strict=False))
    labels = LabelIndex(Vocabulary(tuple(entities), ()), readable)
    expected = slow_search(labels, degree, typed, limit)
    assert EntitySearch.of(labels, degree)(typed, limit) == expected


def test_words_in_any_order_and_those_with_most_facts_first():
    entities = ("acid of citrus", "citric_acid", "Acid, citric (E330)", "acidosis", "lactic acid")
    search = EntitySearch.of(LabelIndex(Vocabulary(entities, ())), [1, 2, 3, 9, 4])
    assert search("citr acid", 9) == [2, 1, 0]
    assert search("acid", 9) == [3, 2, 0, 4, 1]
    assert search("osis cido", 9) == [3]
    assert search("", 2) == [3, 4]


QUESTIONS = [
    ("e003", "r001", "?"),
    ("?", "r001", "e003"),
    ("e003", "^r001", "?"),
    ("e003", "?", "e005"),
    ("e003", "r000/r001", "?"),
    ("?", "r000/^r001/r002", "e003"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids="-".join)
@pytest.mark.parametrize("options", [{}, {"limit": 24, "any_type": True}, {"limit": 3}], ids=str)
@pytest.mark.parametrize("which", ["all_paths", "one_path"])
def test_answers_are_the_notebooks(request, which, question, options):
    predictor = request.getfixturevalue(which)
    port = request.getfixturevalue({"all_paths": "port"}.get(which, "one_path_port"))
    limit, any_type = options.get("limit", 10), options.get("any_type", False)
    table = kgtool.predict(predictor, [question], top=limit, any_type=any_type)
    whole = kgtool.predict(predictor, [question], top=100, include_known=True, any_type=True)
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    said = found(port, "/api/answers", **asked, **options)
    assert {name: said["question"][name] for name in asked} == asked
    place = said["asked"]
    assert asked[place] == "?"
    assert [each["label"] for each in said["answers"]] == table[place].tolist()
    assert [each["score"] for each in said["answers"]] == near(table["score"].tolist())
    chances = [None if p != p else near(p) for p in table["probability"]]
    assert [each["probability"] for each in said["answers"]] == chances
    known = whole[whole["known"] != ""]
    assert said["known_count"] == len(known)
    assert len(said["known"]) == min(len(known), limit)
    own = dict(zip(known[place], known["known"], strict=True))
    assert {each["label"]: each["split"] for each in said["known"]}.items() <= own.items()
    assert said["other_types"] == table.attrs["left_out"][0]["types"]
    shown = [*said["known"], *said["answers"]]
    if which == "one_path" or "/" in question[1]:
        assert {each["why"] for each in shown} <= {None}
    else:
        assert all(each["why"] for each in shown)


def test_what_is_left_out_is_asked_and_names_are_understood(port):
    one = found(port, "/api/answers", head="Zürich", relation="r000", limit=2)
    assert one == found(port, "/api/answers", head="e000", relation="r000", tail="", limit=2)
    assert one["question"] == {
        "head": "e000", "relation": "r000", "tail": "?",
        "names": {"head": "Zürich", "relation": "next to", "tail": "?"},
    }  # fmt: skip
    assert len(one["answers"]) == 2
    status, message = refusal(port, "/api/answers", head="York", relation="r000")
    assert status == 404
    assert "one of the labels 'e003', 'e004'" in message


@pytest.mark.parametrize(
    "question", [("e003", "r001", "e004"), ("e003", "^r001", "e001"), ("Zürich", "r000", "e001")]
)
def test_explanations_are_the_notebooks(all_paths, port, question):
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    said = found(port, "/api/explanation", **asked, limit=5)
    head, relation, tail = question
    theirs = kgtool.explain(all_paths, head, relation, tail, top=5)
    assert said["head"]["label"] == theirs.triple[0]
    assert 0 < len(said["paths"]) <= 5
    drawn = {box["label"]: box["end"] for box in said["drawing"]["boxes"]}
    assert drawn.keys() == {entity for path in theirs.paths for entity in path.entities}
    assert {label for label, end in drawn.items() if end} == {theirs.triple[0], theirs.triple[2]}
    for path, other in zip(said["paths"], theirs.paths, strict=True):
        assert path["weight"] == near(other.weight)
        assert path["fall"] == near(other.fall)
        assert tuple(each["label"] for each in path["entities"]) == other.entities
        for step, whole in zip(path["steps"], other.steps, strict=True):
            shown = whole[: len(step)]
            assert [each["label"] for each in step] == [relation for relation, _ in shown]
            assert [each["weight"] for each in step] == [near(weight) for _, weight in shown]


@pytest.mark.parametrize("question", QUESTIONS[:4], ids="-".join)
def test_why_asks_for_what_the_score_is_of(all_paths, port, question):
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    for answer in found(port, "/api/answers", **asked, limit=3)["answers"]:
        why = answer["why"]
        assert found(port, "/api/explanation", **why)["relation"]["label"] == why["relation"]
        labels = all_paths.labels
        h, r, t = (
            labels.entity(why["head"]),
            labels.relation(why["relation"]),
            labels.entity(why["tail"]),
        )
        score = float(all_paths.scorer.score_t(torch.tensor([[h, r]]))[0, t])
        if question[1] != "?":
            assert score == pytest.approx(answer["score"], rel=1e-5)
        else:
            assert (why["head"], why["tail"]) == (question[0], question[2])


def test_known_answers_are_not_limited_by_their_scores(port, all_paths):
    """Every known answer is in the reply, wherever the model ranks it."""
    for entity in all_paths.labels.vocabulary.entities:
        for relation, step in zip(("r000", "r001", "r002"), STEPS, strict=True):
            said = found(port, "/api/answers", head=entity, relation=relation, limit=1)
            tail = f"e{(int(entity[1:]) + step) % 24:03}"
            assert [each["label"] for each in said["known"]] == [tail]
            assert tail not in [each["label"] for each in said["answers"]]
    pair = found(port, "/api/answers", head="e003", tail="e005")
    assert [each["label"] for each in pair["known"]] == ["r001"]
    path = found(port, "/api/answers", head="e003", relation="r000/r001")
    assert [(each["label"], each["split"]) for each in path["known"]] == [("e006", "facts")]


def test_facts_of_an_entity(port, all_paths):
    dataset, names = all_paths.dataset, all_paths.labels.vocabulary
    said = found(port, "/api/facts", entity="e003")
    facts = {
        (names.entities[h], names.relations[r], names.entities[t]): split
        for split in ("train", "valid", "test")
        for h, r, t in dataset.split(split).tolist()
        if "e003" in (names.entities[h], names.entities[t])
    }
    assert (said["label"], said["name"]) == ("e003", "York")
    assert (said["facts"], said["as_head"], said["as_tail"]) == (6, 3, 3)
    shown = {}
    for group in said["groups"]:
        assert group["count"] == len(group["others"])
        for other in group["others"]:
            ends = ("e003", other["label"])
            head, tail = ends if group["side"] == "head" else ends[::-1]
            shown[head, group["relation"]["label"], tail] = other["split"]
    assert shown == facts
    neighbours = {end for h, _, t in facts for end in (h, t)} - {"e003"}
    assert {each["label"] for each in said["neighbours"]} == neighbours
    assert said["neighbours_count"] == len(neighbours)
    few = found(port, "/api/facts", entity="Zürich", limit=2)
    assert (len(few["neighbours"]), few["neighbours_count"]) == (2, 6)


def test_types_and_loops_of_an_entity(all_paths):
    """A self loop is in both directions, and no neighbour."""
    triples = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 1, 0), (0, 1, 1)]
    data = in_memory(triples, [], [(2, 1, 0)], 3, 2)
    types, labels = {"e000": ["city", "port"]}, LabelIndex(data.vocabulary)
    asking = Asking(replace(all_paths, dataset=data, labels=labels, given_types=types))
    said = asking.facts("e000", 1)
    assert (said.facts, said.as_head, said.as_tail) == (7, 4, 3)
    assert said.types == ["city", "port"]
    own = replace(data, types={"e000": ("harbour",)})
    assert Asking(replace(all_paths, dataset=own, labels=labels)).facts("e000", 1).types == [
        "harbour"
    ]
    groups = [(each.relation.label, each.side, each.count) for each in said.groups]
    assert groups == [
        ("r000", "head", 3), ("r001", "head", 1), ("r001", "tail", 2), ("r000", "tail", 1),
    ]  # fmt: skip
    assert [each.split for each in said.groups[0].others] == ["train"]
    assert [(each.label, each.facts) for each in said.neighbours] == [("e001", 3)]
    assert said.neighbours_count == 2


def test_examples_can_be_asked(port, one_path_port):
    for at in (port, one_path_port):
        said = found(at, "/api/examples")
        assert len(said["queries"]) == 3
        for query in said["queries"]:
            parts = {k: query[k] for k in ("head", "relation", "tail") if query[k] != "?"}
            found(at, "/api/scores" if len(parts) == 3 else "/api/answers", **parts)
        for each in said["entities"]:
            assert found(at, "/api/facts", entity=each["label"])["facts"] == each["facts"]


def test_the_service_is_well(port):
    assert found(port, "/healthz") == {"status": "ok"}


# Batches.

TRIPLES = [("e003", "r001", "e005"), ("York", "r000", "e001"), ("Zürich", "^r002", "e009")]


def test_scores_are_the_notebooks(port, all_paths):
    path = ("e000", "r000/^r001", "e005")
    table = kgtool.score_triples(all_paths, [TRIPLES[0], ("e00", "r001", "e005"), TRIPLES[2], path])
    body = [dict(zip(("head", "relation", "tail"), row[1:4], strict=True))
            for row in table.itertuples()]  # fmt: skip
    said = posted(port, "/api/scores", {"triples": body})
    assert said["failures"] == 1
    assert [{k: each[k] for k in body[0]} for each in said["scores"]] == body
    for each, row in zip(said["scores"], table.itertuples(), strict=True):
        assert each["score"] == (None if row.score != row.score else near(row.score))
        chance = None if row.probability != row.probability else near(row.probability)
        assert each["probability"] == chance
        assert (each["split"] or "", each["reason"] or "") == (row.known, row.reason)
        assert (each["why"] is None) == (bool(row.reason) or "/" in row.relation)
    assert said["scores"][0]["split"] == "train"
    assert "unknown entity 'e00'" in said["scores"][1]["reason"]
    one = found(port, "/api/scores", **dict(zip(body[0], path, strict=True)))
    assert one["names"]["relation"] == "next to/^r001"
    assert one["score"] == near(said["scores"][3]["score"])
    one = found(port, "/api/scores", **dict(zip(body[0], TRIPLES[2], strict=True)))
    assert one["names"] == {"head": "Zürich", "relation": "^r002", "tail": "e009"}
    assert one["score"] == near(said["scores"][2]["score"])


def test_a_batch_of_triples_is_scored_in_parts(port):
    body = [{"head": f"e{i % 24:03}", "relation": "r001", "tail": "e005"} for i in range(70)]
    said = posted(port, "/api/scores", {"triples": body})["scores"]
    assert [each["head"] for each in said] == [each["head"] for each in body]
    assert [each["score"] for each in said[24:48]] == near([each["score"] for each in said[:24]])


def test_a_batch_answers_what_it_can(port):
    questions = [
        {"head": "e003", "relation": "r001"},
        {"head": "nobody", "relation": "r001"},
        {"head": "e003"},
        {"head": "?", "relation": "r001", "tail": "York"},
        {"relation": "r001", "tail": "e003"},
    ]
    said = posted(port, "/api/answers", {"questions": questions, "limit": 3})
    assert said["failures"] == 3
    for each, question in zip(said["replies"], questions, strict=True):
        if each["message"] is None:
            assert each["reply"] == found(port, "/api/answers", **question, limit=3)
        else:
            assert each["reply"] is None
            assert "Remedy: " in each["message"]
    assert "unknown entity 'nobody'" in said["replies"][1]["message"]


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"{}", 422, "questions: Field required"),
        (b"", 422, "Remedy: see /docs"),
        (b"[]", 422, "Remedy: see /docs"),
        (b"{", 422, "Remedy: see /docs"),
        (b"\xff", 400, "Remedy: see /docs"),
        (b'{"questions": []}', 422, "questions: "),
        (b'{"questions": [{"haed": "e003"}]}', 422, "questions.0.haed: Extra inputs"),
        (b'{"questions": [{}], "top": 5}', 422, "top: Extra inputs"),
        (b'{"questions": [{}], "limit": 101}', 422, "limit: "),
        (b'{"questions": [' + b"{}," * 100 + b"{}]}", 422, "questions: "),
        (b'{"questions": ' + b"[" * 100_000, 400, "Remedy: "),
        (b" " * (5 << 20), 413, "Remedy: send smaller batches"),
    ],
)
def test_bodies_that_cannot_be_read(port, body, status, part):
    answered, headers, content = reply(port, "/api/answers", "POST", body=body)
    message = json.loads(content)["message"]
    assert answered == status, message
    assert part in message
    assert "Remedy: " in message
    assert headers["content-security-policy"]


def test_a_body_needs_its_type_and_its_length(port):
    """A page of another origin cannot send JSON without asking first."""
    body = b'{"questions": [{"head": "e003", "relation": "r001"}]}'
    assert reply(port, "/api/answers", "POST", body=body, kind="text/plain")[0] == 422
    chunked = b"Transfer-Encoding: chunked\r\n\r\n35\r\n" + body + b"\r\n0\r\n\r\n"
    start = b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert raw(port, start + b"Connection: close\r\n" + chunked).startswith(b"HTTP/1.1 413")


# Clients that do not go on.

HALF = (
    b"",
    b"GET /",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 60\r\n\r\n{",
)


@contextmanager
def opened(port: int, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            connection.sendall(sent)
            sockets.append(connection)
        yield sockets


def is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("sent", HALF, ids=["nothing", "a line", "headers", "half a body"])
def test_half_open_connections_do_not_block(all_paths, sent):
    with served(all_paths) as port, opened(port, 300, sent) as sockets:
        assert found(port, "/healthz") == {"status": "ok"}  # at once, not after a time limit
        assert found(port, "/api/answers", head="e003", relation="r001")["known"]
        assert is_closed(sockets[0], 5)  # the oldest made room
        assert not is_closed(sockets[-1], 0.1)


@pytest.mark.parametrize("sent", HALF, ids=["nothing", "a line", "headers", "half a body"])
def test_a_silent_client_is_dropped(all_paths, monkeypatch, sent):
    monkeypatch.setattr(serving, "PATIENCE", 0.3)
    with served(all_paths) as port, opened(port, 3, sent) as sockets:
        assert all(is_closed(connection, 20) for connection in sockets)
        assert found(port, "/healthz") == {"status": "ok"}


def test_a_client_that_sends_a_byte_now_and_then_is_dropped(all_paths, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 0.6)
    with served(all_paths) as port, opened(port, 1, b"GET /healthz HTTP/1.1\r\nX: ") as (one,):
        for _ in range(100):
            try:
                one.sendall(b"x")
            except ConnectionError:
                break
            if is_closed(one, 0.1):
                break
        else:
            pytest.fail("the connection stays open")


def test_an_idle_connection_is_closed_and_a_used_one_is_not(all_paths, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 0.8)
    with served(all_paths) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(5):  # longer than the limit in all, each request within it
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.3)
        assert is_closed(connection.sock, 20)
        connection.close()


def test_a_client_that_does_not_read_is_dropped(all_paths, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 0.5)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(all_paths) as port:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        with one:
            one.settimeout(1)
            sent, received = 0, b""
            with suppress(TimeoutError, ConnectionError):
                for sent in range(3000):  # noqa: B007  # until the buffers of both sides are full
                    one.sendall(asked)
            # Its buffers are full, and it reads nothing. A server that waits for it goes on after
            # the first read below, so its replies have no end: the limit makes the test fail.
            time.sleep(1)
            one.settimeout(20)
            end = time.monotonic() + 20
            with suppress(ConnectionError):  # closed, with a reset or without
                while part := one.recv(1 << 20):
                    received += part
                    assert time.monotonic() < end, "the connection stays open"
            assert received.count(b"HTTP/1.1 200") < sent
        assert found(port, "/healthz") == {"status": "ok"}


def test_a_slow_answer_is_waited_for(all_paths, monkeypatch):
    """The limits are of clients: the service itself may take longer."""
    monkeypatch.setattr(serving, "PATIENCE", 0.2)
    answer = Asking.answer

    def slow(*arguments):
        time.sleep(1)
        return answer(*arguments)

    monkeypatch.setattr(Asking, "answer", slow)
    with served(all_paths) as port:
        assert found(port, "/api/answers", head="e003", relation="r001")["known"]


def test_a_one_path_run_explains_nothing_and_says_so(one_path_port):
    status, message = refusal(
        one_path_port, "/api/explanation", head="e000", relation="r000", tail="e001"
    )
    assert status == 404
    assert "reads one path at a time" in message
    assert "Remedy: " in message


@pytest.mark.parametrize(
    ("path", "query", "status", "part"),
    [
        ("answers", {}, 422, "one '?'"),
        ("answers", {"head": "e000"}, 422, "one '?'"),
        ("answers", {"head": "e000", "relation": "r000", "tail": "e001"}, 422, "one '?'"),
        ("answers", {"head": "e00", "relation": "r000"}, 404, "did you mean 'e0"),
        ("answers", {"head": "e000", "relation": "r00"}, 404, "unknown relation 'r00'"),
        ("answers", {"head": "e000", "relation": "/".join(["r000"] * 6)}, 422, "at most 5"),
        ("answers", {"head": "e000", "relation": "/" * 1999}, 422, "at most 5"),
        ("answers", {"head": "e000", "relation": "r000", "limit": 0}, 422, "limit: "),
        ("answers", {"head": "e000", "relation": "r000", "limit": 101}, 422, "limit: "),
        ("answers", {"head": "e000", "relation": "r000", "any_type": "maybe"}, 422, "any_type: "),
        ("answers", {"head": "e" * 2001, "relation": "r000"}, 422, "head: "),
        ("answers", {"head": "../../etc/passwd", "relation": "r000"}, 404, "unknown entity"),
        ("answers", {"head": "\0", "relation": "r000"}, 404, r"unknown entity '\x00'"),
        ("answers", {"head": "\ud800", "relation": "r000"}, 404, "unknown entity"),
        ("entities", {"limit": "ten"}, 422, "limit: "),
        ("entities", {"q": "x" * 2001}, 422, "q: "),
        ("explanation", {"head": "e000"}, 422, "relation: "),
        (
            "explanation",
            {"head": "e000", "relation": "r000", "tail": "?"},
            404,
            "unknown entity '?'",
        ),
        ("answers", {"head": "e000", "relation": "r000", "top": 2}, 422, "unknown parameter 'top'"),
        (
            "answers",
            {"head": "e000", "relation": "r000", "top": 2},
            422,
            "use head, relation, tail",
        ),
        ("about", {"q": "e"}, 422, "unknown parameter 'q'"),
        ("entities", {"Q": "e"}, 422, "unknown parameter 'Q'"),
        ("entities", {"limit": ["1", "2"]}, 422, "limit: given twice"),
        ("facts", {}, 422, "entity: "),
        ("facts", {"entity": "e00"}, 404, "did you mean 'e0"),
        ("scores", {"head": "e000", "relation": "r000"}, 422, "tail: "),
        ("scores", {"head": "e000", "relation": "r000", "tail": "e00"}, 404, "did you mean 'e0"),
        ("nothing", {}, 404, "Remedy: "),
        ("../kgtool/service/app.py", {}, 404, "Remedy: "),
        ("%2e%2e/%2e%2e/etc/passwd", {}, 404, "Remedy: "),
    ],
)
def test_what_cannot_be_answered(port, path, query, status, part):
    told, message = refusal(port, f"/api/{path}", **query)
    assert told == status, message
    assert part in message
    assert "Remedy: " in message
    assert "Traceback" not in message


def test_paths_of_five_relations_are_answered(port):
    assert found(port, "/api/answers", head="e000", relation="/".join(["r000"] * 5))["answers"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/api/about", "/api/answers"])
def test_no_other_method(port, method, path):
    if (method, path) == ("POST", "/api/answers"):
        pytest.skip("a batch")
    status, headers, _ = reply(port, path, method)
    assert status == 405
    assert headers["allow"] == "GET"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "x@y", "[::2]"]
)
def test_another_host_is_refused(port, host):
    for path in ("/", "/api/about", "/openapi.json"):
        status, _, body = reply(port, path, host=host)
        assert status == 400
        assert json.loads(body)["message"].startswith("the request names another host. Remedy: ")
        assert b"kgtool" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_loopback_by_any_of_its_names(port, host):
    assert reply(port, "/api/about", host=host)[0] == 200


def test_every_reply_keeps_the_page_to_itself(port):
    for path in ("/", "/ask.js", "/ask.css", "/docs", "/api/about", "/api/answers", "/nothing"):
        _, headers, _ = reply(port, path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_page_names_no_other_place(port):
    for path, kind in (
        ("/", "text/html"),
        ("/ask.js", "text/javascript"),
        ("/ask.css", "text/css"),
    ):
        status, headers, body = reply(port, path)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", text)
        assert "innerHTML" not in text
    assert reply(port, "/redoc")[0] == 404


def test_hostile_bytes(port):
    def get(query: bytes, headers: bytes = b"") -> bytes:
        return raw(port, b"GET /api/entities?" + query + b" HTTP/1.1\r\nHost: localhost\r\n"
                   + headers + b"Connection: close\r\n\r\n")  # fmt: skip

    assert get(b"q=e000").startswith(b"HTTP/1.1 200")
    assert get(b"q=%00%ff%ed%a0%80&limit=1").startswith(b"HTTP/1.1 200")
    assert get(b"q=%zz&&").startswith(b"HTTP/1.1 200")
    assert get(b"q=%zz&&&==&q").startswith(b"HTTP/1.1 422")
    # The server hangs up on what it will not keep in memory.
    assert b" 200 " not in get(b"q=" + b"x" * 10_000_000)
    assert b" 200 " not in get(b"q=e", b"X: " + b"y" * 10_000_000 + b"\r\n")
    assert get(b"q=\0").startswith(b"HTTP/1.1 400")
    assert raw(port, b"\x16\x03\x01\x02\x00\x01\x00" * 20 + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert found(port, "/api/about")["run"] == "run"


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Valid and invalid values of a parameter."""
    kind = schema["type"]
    if kind == "integer":
        low, high = schema["minimum"], schema["maximum"]
        good: st.SearchStrategy[Any] = st.integers(low, high)
        return good | st.integers() | st.sampled_from([low - 1, high + 1, "", "1e3", "½", "-0"])
    if kind == "boolean":
        return st.sampled_from(["true", "false", "1", "0", "", "2", "yes", "\0"])
    assert kind == "string"
    known = ["?", "", "e000", "e001", "r000", "^r001", "r000/^r002", "Zürich", "York", "^"]
    known += ["/".join(["r001"] * 5), "/" * 30, "<script>", "\0", "../..", "\ud800", "x" * 2001]
    return st.sampled_from(known) | st.text(max_size=30)


NAMES_OF_API = (
    "about",
    "answers",
    "entities",
    "examples",
    "explanation",
    "facts",
    "relations",
    "scores",
)


FAILED_WITH = (400, 404, 413, 422, 500, 503)


def test_the_document_is_complete(port):
    document = found(port, "/openapi.json")
    assert sorted(document["paths"]) == [*(f"/api/{name}" for name in NAMES_OF_API), "/healthz"]
    for path, methods in document["paths"].items():
        batch = path in ("/api/answers", "/api/scores")
        assert list(methods) == (["get", "post"] if batch else ["get"]), path
        for method in methods.values():
            assert method["description"]
            assert set(method["responses"]) == {"200", *map(str, FAILED_WITH)}
        for parameter in methods["get"].get("parameters", ()):
            schema = parameter["schema"]
            assert parameter["description"], (path, parameter["name"])
            assert {"string": "maxLength", "integer": "maximum"}.get(
                schema["type"], "type"
            ) in schema
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, part in schema["properties"].items():
            assert part["description"], (name, field)


def test_one_name_a_thing(port):
    """A parameter of one name has one description of its type everywhere."""
    document = found(port, "/openapi.json")
    kinds: dict[str, set[str]] = {}
    other = ("title", "default", "description")
    for methods in document["paths"].values():
        for parameter in methods["get"].get("parameters", ()):
            schema = {k: v for k, v in parameter["schema"].items() if k not in other}
            kinds.setdefault(parameter["name"], set()).add(json.dumps(schema, sort_keys=True))
    assert sorted(kinds) == ["any_type", "entity", "head", "limit", "q", "relation", "tail"]
    assert all(len(kind) == 1 for kind in kinds.values())


def test_the_documents_page_has_all_of_it_and_loads_nothing(port):
    status, _, body = reply(port, "/docs")
    assert status == 200
    page, document = Page(body.decode()), found(port, "/openapi.json")
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            assert f"{method.upper()}{path}" in page.values("id")
            for parameter in each.get("parameters", ()):
                assert parameter["description"].replace("`", "") in page.text
    for name, schema in document["components"]["schemas"].items():
        assert name in page.values("id")
        for field, part in schema["properties"].items():
            assert field in page.text
            assert part["description"].replace("`", "") in page.text
    assert {tag for tag, _ in page.tags} & {"script", "img", "iframe"} == set()
    links = page.values("href")
    assert all(link.startswith(("/", "#", "data:,")) and "//" not in link for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(page.values("id"))
    examples = {
        each.path: status for status, each in failures("", 1).items() if not each.options
    }  # fmt: skip
    for link in set(links):  # the examples can be clicked
        if link.startswith(("/api/", "/healthz")):
            assert reply(port, link)[0] == examples.get(link, 200), link


def test_document_page_and_docs_say_the_same_of_errors(port):
    document = found(port, "/openapi.json")
    page = Page(reply(port, "/docs")[2].decode())
    text = (ROOT / "docs" / "guides" / "service.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.M))
    meaning: dict[str, set[str]] = {}
    for methods in document["paths"].values():
        for method in methods.values():
            for status, each in method["responses"].items():
                if status != "200":
                    meaning.setdefault(status, set()).add(each["description"])
                    message = each["content"]["application/json"]["example"]["message"]
                    assert each["content"]["application/json"]["schema"] == {
                        "$ref": "#/components/schemas/Failure"
                    }
                    assert json.dumps({"message": message}, ensure_ascii=False) in page.text
    assert meaning == {status: {text} for status, text in rows.items()}
    assert sorted(rows) == [str(status) for status in FAILED_WITH]
    for status, words in rows.items():
        assert status in page.values("id")
        assert words.replace("`", "") in page.text


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_the_examples_of_errors_are_true(all_paths, port, status):
    each = failures(str(_unknown(all_paths)), 32)[status]
    page = Page(reply(port, "/docs")[2].decode())
    assert each.request in page.text
    if each.options:
        command = each.request.replace("ADDRESS", f"http://127.0.0.1:{port}")
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl -s -w '%{http_code}' ")],
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        body, told = done.stdout[:-3], int(done.stdout[-3:])
    else:
        told, _, body = reply(port, each.path)
    assert told == status
    assert json.loads(body) == json.loads(each.reply)


def _unknown(predictor: Predictor) -> Exception:
    with pytest.raises(KGToolError) as caught:
        predictor.labels.entity(NOBODY)
    return caught.value


def test_a_score_that_is_no_number_is_a_500(all_paths, monkeypatch):
    def fail(*_: Any) -> None:
        raise ScoreError("a score that is NaN. Remedy: train again.")

    monkeypatch.setattr(Asking, "answer", fail)
    with served(all_paths) as port:
        assert refusal(port, "/api/answers", head="e003", relation="r001") == (
            500,
            "a score that is NaN. Remedy: train again.",
        )


def check(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> None:
    """Check a value against the API document; extra keys are errors."""
    if "$ref" in schema:
        check(value, whole["components"]["schemas"][schema["$ref"].split("/")[-1]], whole)
    elif "anyOf" in schema:
        kinds = [each for each in schema["anyOf"] if each.get("type") != "null"]
        assert len(kinds) == 1
        if value is not None:
            check(value, kinds[0], whole)
    elif schema["type"] == "object":
        assert set(value) == set(schema["properties"]) == set(schema["required"])
        for name, part in schema["properties"].items():
            check(value[name], part, whole)
    elif schema["type"] == "array":
        assert isinstance(value, list)
        for each in value:
            check(each, schema["items"], whole)
    else:
        types = {"string": str, "integer": int, "number": float, "boolean": bool}
        assert type(value) is types[schema["type"]]
        assert value in schema.get("enum", [schema.get("const", value)])


@settings(max_examples=300)
@given(st.data())
def test_no_question_breaks_it(port, one_path_port, data):
    """Random requests: status and body are as in the API document."""
    at = data.draw(st.sampled_from([port, one_path_port]))
    document = DOCUMENTS.setdefault(at, found(at, "/openapi.json"))
    path = data.draw(st.sampled_from(sorted(document["paths"])))
    asked = document["paths"][path]["get"]
    query = {}
    for parameter in asked.get("parameters", ()):
        if data.draw(st.integers(0, 3)):
            query[parameter["name"]] = data.draw(_texts(parameter["schema"]))
    status, headers, body = reply(at, path, **query)
    assert status in (200, 404, 422)
    assert headers["content-type"] == "application/json"
    schema = asked["responses"][str(status)]["content"]["application/json"]["schema"]
    check(json.loads(body), schema, document)


DOCUMENTS: dict[int, Any] = {}


def peak() -> int:
    """The peak memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_twenty_clients_at_once(all_paths, port):
    entities = all_paths.labels.vocabulary.entities
    questions = [(entity, f"r00{i % 3}", "?") for i, entity in enumerate(entities)] * 5
    asked = [dict(zip(("head", "relation"), each[:2], strict=True)) for each in questions]
    truth = [
        kgtool.predict(all_paths, [each], top=5)["tail"].tolist() for each in questions[:24]
    ] * 5
    before, threads = peak(), threading.active_count()
    with ThreadPoolExecutor(20) as clients:
        said = list(clients.map(lambda one: found(port, "/api/answers", **one, limit=5), asked))
        # The clients; the server and its scoring have theirs already.
        assert threading.active_count() <= threads + 20
    assert [[each["label"] for each in one["answers"]] for one in said] == truth
    assert peak() - before < 100 << 20


def test_too_many_wait_and_are_told_so(all_paths, monkeypatch):
    going, go_on = threading.Event(), threading.Event()
    answer = Asking.answer

    def slow(*arguments):
        going.set()
        assert go_on.wait(60)
        return answer(*arguments)

    monkeypatch.setattr(Asking, "answer", slow)
    asked = {"head": "e000", "relation": "r000"}
    with served(all_paths, Desk(most=1)) as port, ThreadPoolExecutor(1) as client:
        first = client.submit(found, port, "/api/answers", **asked)
        assert going.wait(60)
        status, headers, body = reply(port, "/api/answers", head="e000", relation="r000")
        assert (status, headers["retry-after"]) == (503, "5")
        assert "Remedy: try again soon" in json.loads(body)["message"]
        assert found(port, "/api/entities", q="e000")  # what needs no scoring does not wait
        go_on.set()
        assert first.result(60)["answers"]
        assert found(port, "/api/answers", **asked)["answers"]


def state_of(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_serving_writes_nothing(tmp_path):
    predictor = _run(tmp_path, all_paths_config(epochs=1), nasty_ring())
    before = state_of(tmp_path)
    assert {"probability", "relations"} <= {Path(p).name.split(".")[0] for p in before}
    names = predictor.labels.vocabulary
    with served(predictor) as port:
        for entity in names.entities[:12]:
            found(port, "/api/answers", head=entity, relation=names.relations[1])
            found(port, "/api/answers", head=entity, tail=names.entities[0])
            found(port, "/api/entities", q=entity)
            found(port, "/api/facts", entity=entity)
            why = {"head": entity, "relation": names.relations[0], "tail": names.entities[3]}
            found(port, "/api/explanation", **why)
            found(port, "/api/scores", **why)
        assert reply(port, "/docs")[0] == 200
    assert state_of(tmp_path) == before


def test_without_probabilities(all_paths, monkeypatch):
    monkeypatch.setattr("kgtool.inference.predictor.fit_probability", lambda *_, **__: None)
    monkeypatch.setattr("kgtool.inference.predictor.Predictor.fitted_file", lambda *_: None)
    with served(replace(all_paths)) as port:
        assert found(port, "/api/about")["probabilities"] is False
        answers = found(port, "/api/answers", head="e000", relation="r000")["answers"]
        assert {each["probability"] for each in answers} == {None}


# Where it listens.


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path):
    with serving.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        told = rf"port {port} \(.*in use.*Remedy: choose another --port"
        with pytest.raises(KGToolError, match=told) as caught:
            kgtool.serve(tmp_path / "no run", port=port)
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("host", ["203.0.113.7", "", "no host"])
def test_a_host_that_is_not_this_machines(host):
    if host == "":  # all addresses, as sockets take it
        with serving.listen(host, 0) as listener:
            assert not serving.is_loopback(listener)
        return
    with pytest.raises(KGToolError, match="Remedy: "):
        serving.listen(host, 0)


def test_names_of_loopback_are_no_other_names():
    with serving.listen("127.0.0.1", 0) as listener:
        assert serving.is_loopback(listener)
        assert set(serving.names_of("127.0.0.1", listener)) == {"localhost", "127.0.0.1", "[::1]"}
    with serving.listen("0.0.0.0", 0) as listener:
        assert not serving.is_loopback(listener)
        names = serving.names_of("0.0.0.0", listener)
        assert socket.gethostname() in names
        assert "*" not in names


def test_another_host_is_warned_of(all_paths, monkeypatch):
    told: list[str] = []

    def stop(line: str) -> None:
        told.append(line)
        if line.startswith("Serving"):
            raise KeyboardInterrupt

    kgtool.serve(all_paths, host="0.0.0.0", port=0, echo=stop)
    assert told[0].startswith("Warning: anyone who can reach")
    assert told[-1] == "Stopped."
    told.clear()
    kgtool.serve(all_paths, port=0, echo=stop)
    assert not any("Warning" in line for line in told)


def test_ctrl_c_stops_it_cleanly(all_paths):
    command = [sys.executable, "-u", "-m", "kgtool", "serve", all_paths.run.path, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if match := re.search(r"at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C stops\)", line):
                break
        else:
            pytest.fail("it ended before it served")
        assert found(int(match[1]), "/api/about")["entities"] == 24
        process.send_signal(signal.SIGINT)
        # The limit is for a server that never stops; a busy machine needs a part of it.
        watch = threading.Timer(300, process.kill)
        watch.start()
        out, err = process.stdout.read(), process.stderr.read()
        watch.cancel()
        assert (process.wait(), out) == (0, "Stopped.\n")
        # On a busy machine, loading takes longer than the time between two lines of progress.
        assert [line for line in err.splitlines() if not line.startswith("serve: working")] == []


def test_a_server_that_waits_says_nothing(monkeypatch, capfd):
    """Progress off a terminal is for work that ends."""
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with progress.show_progress("serve"):
        time.sleep(0.1)
        progress.end_progress()
        assert "serve: working" in capfd.readouterr().err
        time.sleep(0.1)
        assert capfd.readouterr().err == ""
