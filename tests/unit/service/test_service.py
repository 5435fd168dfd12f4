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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kgtool
from kgtool.data.dataset import Vocabulary
from kgtool.data.labels import LabelIndex
from kgtool.errors import KGToolError
from kgtool.inference.predictor import Predictor
from kgtool.service import asking, serving
from kgtool.service.desk import Desk
from kgtool.service.search import EntitySearch
from tests.support.pages import nasty_ring
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder
from tests.support.services import found, raw, refusal, reply, served

# Threads add up in orders of their own.
near = partial(pytest.approx, rel=1e-4, abs=1e-6)
NAMES = (
    "e000\tZürich\ne001\tNew York\ne002\tnew york state\ne003\tYork\ne004\tYork\nr000\tnext to\n"
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
        "train": 56, "valid": 8, "test": 8,
        "probabilities": True, "explains": True, "version": kgtool.__version__,
    }  # fmt: skip
    assert found(one_path_port, "/api/about")["explains"] is False


def test_relations(port):
    assert found(port, "/api/relations") == [
        {"label": "r000", "name": "next to"},
        {"label": "r001", "name": "r001"},
        {"label": "r002", "name": "r002"},
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
    assert found(port, "/api/entities", q="zürich") == [{"label": "e000", "name": "Zürich"}]


def slow_search(labels: LabelIndex, typed: str, limit: int) -> list[int]:
    names = sorted(
        (name.casefold(), i)
        for i, label in enumerate(labels.vocabulary.entities)
        for name in {label, labels.names.get(label, label)}
    )
    begin = [i for name, i in names if name.startswith(typed.casefold())]
    hold = [i for name, i in names if typed.casefold() in name]
    return list(dict.fromkeys(begin + hold))[:limit]


@given(
    st.lists(st.text("abAß", min_size=1, max_size=5), unique=True, min_size=1, max_size=12),
    st.lists(st.text("abAß", min_size=1, max_size=5), max_size=12),
    st.text("abAß", max_size=3),
    st.integers(1, 6),
)
def test_the_search_finds_what_a_loop_finds(entities, names, typed, limit):
    readable = dict(zip(entities, names, strict=False))
    labels = LabelIndex(Vocabulary(tuple(entities), ()), readable)
    assert EntitySearch.of(labels)(typed, limit) == slow_search(labels, typed, limit)


QUESTIONS = [
    ("e003", "r001", "?"),
    ("?", "r001", "e003"),
    ("e003", "^r001", "?"),
    ("e003", "?", "e005"),
    ("e003", "r000/r001", "?"),
    ("?", "r000/^r001/r002", "e003"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids="-".join)
@pytest.mark.parametrize(
    "options", [{}, {"new": False, "top": 24}, {"typed": True, "top": 3}], ids=str
)
@pytest.mark.parametrize("which", ["all_paths", "one_path"])
def test_answers_are_the_notebooks(request, which, question, options):
    predictor = request.getfixturevalue(which)
    port = request.getfixturevalue({"all_paths": "port"}.get(which, "one_path_port"))
    table = kgtool.predict(
        predictor, [question], options.get("top", 10),
        include_known=not options.get("new", True), filter_types=options.get("typed", False),
    )  # fmt: skip
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    said = found(port, "/api/answers", **asked, **options)
    assert said["question"] == asked
    assert said["asked"] == (table["asked"].iloc[0] if len(table) else said["asked"])
    assert [each["label"] for each in said["answers"]] == table[said["asked"]].tolist()
    assert [each["score"] for each in said["answers"]] == near(table["score"].tolist())
    chances = [None if p != p else near(p) for p in table["probability"]]
    assert [each["probability"] for each in said["answers"]] == chances
    assert [each["known"] or "" for each in said["answers"]] == table["known"].tolist()
    if which == "one_path" or "/" in question[1]:
        assert {each["why"] for each in said["answers"]} <= {None}
    else:
        assert all(each["why"] for each in said["answers"])


def test_what_is_left_out_is_asked_and_names_are_understood(port):
    one = found(port, "/api/answers", head="Zürich", relation="r000", top=2)
    assert one == found(port, "/api/answers", head="e000", relation="r000", tail="", top=2)
    assert one["question"] == {"head": "e000", "relation": "r000", "tail": "?"}
    assert one["names"] == {"head": "Zürich", "relation": "next to", "tail": "?"}
    assert len(one["answers"]) == 2
    status, message = refusal(port, "/api/answers", head="York", relation="r000")
    assert status == 404
    assert "one of the labels 'e003', 'e004'" in message


@pytest.mark.parametrize(
    "question", [("e003", "r001", "e004"), ("e003", "^r001", "e001"), ("Zürich", "r000", "e001")]
)
def test_explanations_are_the_notebooks(all_paths, port, question):
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    said = found(port, "/api/explanation", **asked, top=5)
    head, relation, tail = question
    theirs = kgtool.explain(all_paths, head, relation, tail, top=5)
    assert said["head"]["label"] == theirs.triple[0]
    assert 0 < len(said["paths"]) <= 5
    for path, other in zip(said["paths"], theirs.paths, strict=True):
        assert path["weight"] == near(other.weight)
        assert tuple(each["label"] for each in path["entities"]) == other.entities
        for step, whole in zip(path["steps"], other.steps, strict=True):
            shown = whole[: len(step)]
            assert [each["relation"] for each in step] == [relation for relation, _ in shown]
            assert [each["weight"] for each in step] == [near(weight) for _, weight in shown]


@pytest.mark.parametrize("question", QUESTIONS[:4], ids="-".join)
def test_why_asks_for_what_the_score_is_of(all_paths, port, question):
    asked = dict(zip(("head", "relation", "tail"), question, strict=True))
    for answer in found(port, "/api/answers", **asked, top=3)["answers"]:
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
        ("answers", {"head": "e000", "relation": "r000", "top": 0}, 422, "top: "),
        ("answers", {"head": "e000", "relation": "r000", "top": 101}, 422, "top: "),
        ("answers", {"head": "e000", "relation": "r000", "new": "maybe"}, 422, "new: "),
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
@pytest.mark.parametrize("path", ["/", "/api/about", "/api/answers"])
def test_nothing_but_get(port, method, path):
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
        assert b"kgtool" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_loopback_by_any_of_its_names(port, host):
    assert reply(port, "/api/about", host=host)[0] == 200


def test_every_reply_keeps_the_page_to_itself(port):
    for path in ("/", "/ask.js", "/ask.css", "/api/about", "/api/answers", "/nothing"):
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
    for path in ("/docs", "/redoc"):
        assert reply(port, path)[0] == 404


def test_hostile_bytes(port):
    def get(query: bytes, headers: bytes = b"") -> bytes:
        return raw(port, b"GET /api/entities?" + query + b" HTTP/1.1\r\nHost: localhost\r\n"
                   + headers + b"Connection: close\r\n\r\n")  # fmt: skip

    assert get(b"q=e000").startswith(b"HTTP/1.1 200")
    assert get(b"q=%00%ff%ed%a0%80&limit=1").startswith(b"HTTP/1.1 200")
    assert get(b"q=%zz&&&==&q").startswith(b"HTTP/1.1 200")
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


def test_the_document_is_complete(port):
    document = found(port, "/openapi.json")
    assert sorted(document["paths"]) == [
        f"/api/{name}" for name in ("about", "answers", "entities", "explanation", "relations")
    ]
    for path, methods in document["paths"].items():
        assert list(methods) == ["get"], path
        assert set(methods["get"]["responses"]) == {"200", "404", "422", "503"}
        for parameter in methods["get"].get("parameters", ()):
            schema = parameter["schema"]
            assert {"string": "maxLength", "integer": "maximum"}.get(
                schema["type"], "type"
            ) in schema


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
        assert value in schema.get("enum", [value])


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
        said = list(clients.map(lambda one: found(port, "/api/answers", **one, top=5), asked))
        # Two for the server and its scoring, no one a request.
        assert threading.active_count() <= threads + 20
    assert [[each["label"] for each in one["answers"]] for one in said] == truth
    assert peak() - before < 100 << 20


def test_too_many_wait_and_are_told_so(all_paths, monkeypatch):
    going, go_on = threading.Event(), threading.Event()
    answer = asking.answer

    def slow(*arguments):
        going.set()
        assert go_on.wait(60)
        return answer(*arguments)

    monkeypatch.setattr(asking, "answer", slow)
    asked = {"head": "e000", "relation": "r000"}
    with served(all_paths, Desk(most=1)) as port, ThreadPoolExecutor(1) as client:
        first = client.submit(found, port, "/api/answers", **asked)
        assert going.wait(60)
        status, headers, body = reply(port, "/api/answers", **asked)
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
            found(port, "/api/answers", head=entity, relation=names.relations[1], new=False)
            found(port, "/api/answers", head=entity, tail=names.entities[0])
            found(port, "/api/entities", q=entity)
            why = {"head": entity, "relation": names.relations[0], "tail": names.entities[3]}
            found(port, "/api/explanation", **why)
    assert state_of(tmp_path) == before


def test_without_probabilities(all_paths, monkeypatch):
    monkeypatch.setattr("kgtool.inference.predictor.fit_probability", lambda *_: None)
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
        for line in process.stdout:
            if match := re.search(r"at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C stops\)", line):
                break
        assert match is not None
        assert found(int(match[1]), "/api/about")["entities"] == 24
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "Stopped.\n", "")
