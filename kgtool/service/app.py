"""The web application: a page, its JSON API, and the API's description at `/docs`.

It is read-only: no request changes anything. The page may load only its own style and scripts, and
may connect only to this server. Requests with another host name are refused; otherwise a foreign
page could reach the server by DNS rebinding.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kgtool.errors import ConfigError, DataError, KGToolError, RunError
from kgtool.inference.predictor import Predictor
from kgtool.inference.query import ASKED
from kgtool.service import replies
from kgtool.service.asking import Asking
from kgtool.service.desk import BusyError, Desk
from kgtool.service.document import describe
from kgtool.service.failures import LARGEST_BODY, NOBODY, OTHER_HOST, TOO_LARGE, failures
from kgtool.service.replies import LONGEST_TEXT, MOST
from kgtool.service.search import EntitySearch

PART = 20  # triples to score before other requests have their turn

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FILES = {"/": "ask.html", "/ask.css": "ask.css", "/ask.js": "ask.js"}
PORT = re.compile(r":\d*$")
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
STATUS: dict[type[KGToolError], int] = {
    BusyError: 503, ConfigError: 422, DataError: 404, RunError: 404,
}  # fmt: skip


def _text(description: str) -> object:
    return Query(max_length=LONGEST_TEXT, description=description)


def _limit(description: str) -> object:
    return Query(ge=1, le=MOST, description=description)


Head = Annotated[str, _text("The head, by label or readable name; `?` or empty to ask for it.")]
Relation = Annotated[
    str,
    _text("The relation: `^r` is the inverse of `r`, `r1/r2` a path; `?` or empty to ask for it."),
]
Tail = Annotated[str, _text("The tail, by label or readable name; `?` or empty to ask for it.")]
GivenHead = Annotated[str, _text("The head, by label or readable name.")]
GivenRelation = Annotated[str, _text("The relation; `^r` is the inverse of `r`.")]
GivenTail = Annotated[str, _text("The tail, by label or readable name.")]
Entity = Annotated[str, _text("The entity, by label or readable name.")]
Typed = Annotated[str, _text("Words, or beginnings of words, in any order and case.")]
AnyType = Annotated[
    bool,
    Query(
        description="Include answers of types that the facts speak against, such as a person as "
        "its own husband."
    ),
]
MostAnswers = Annotated[int, _limit("The most new answers, and the most known answers.")]
MostEntities = Annotated[int, _limit("The most entities.")]
MostFacts = Annotated[int, _limit("The most facts of each relation, and the most neighbours.")]
MostPaths = Annotated[int, _limit("The most paths.")]


async def known_parameters(request: Request) -> None:
    """Refuse a parameter that the address does not have, or has twice.

    Raises:
        ConfigError: naming the parameter.
    """
    names = [field.alias for field in request.scope["route"].dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in names:
            known = f"use {', '.join(names)}" if names else "leave it out"
            raise ConfigError(f"unknown parameter {name!r:.60}. Remedy: {known}; see /docs.")
        if given.count(name) > 1:
            raise ConfigError(f"{name}: given twice. Remedy: give it once; see /docs.")


def build_app(predictor: Predictor, hosts: Sequence[str], desk: Desk | None = None) -> FastAPI:
    """The application that serves a run.

    Args:
        predictor: answers queries; its fits on valid should exist already.
        hosts: the host names that requests may use.
        desk: the queue of queries.
    """
    desk = desk or Desk()
    asking = Asking(predictor)
    search = EntitySearch.of(predictor.labels, asking.degree)
    about, relations, examples = asking.about(), asking.relations(), asking.examples()
    failed_with = failures(_message_of_unknown(asking), desk.most)
    app = FastAPI(
        title="kgtool", version=about.version, docs_url=None, redoc_url=None,
        responses={
            status: {
                "model": replies.Failure,
                "description": each.meaning,
                "content": {"application/json": {"example": {"message": each.message}}},
            }
            for status, each in failed_with.items()
        },
    )  # fmt: skip
    allowed = {host.lower() for host in hosts}

    @app.middleware("http")
    async def with_headers(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        host = PORT.sub("", request.headers.get("host", "").lower())
        length = request.headers.get("content-length", "0")
        if host not in allowed:
            response: Response = JSONResponse({"message": OTHER_HOST}, 400)
        elif int(length) > LARGEST_BODY or "transfer-encoding" in request.headers:
            response = JSONResponse({"message": TOO_LARGE}, 413)
        else:
            response = await go_on(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(KGToolError)
    async def failed(_: Request, error: KGToolError) -> JSONResponse:
        status = STATUS.get(type(error), 500)
        wait = {"Retry-After": "5"} if status == 503 else None
        return JSONResponse({"message": str(error)}, status, wait)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(
            f"{'.'.join(map(str, fault['loc'][1:])) or fault['loc'][0]}: {fault['msg']}"
            for fault in error.errors()[:5]
        )
        return JSONResponse({"message": f"{problems}. Remedy: see /docs."}, 422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}. Remedy: see /docs."
        return JSONResponse({"message": message}, error.status_code, error.headers)

    api = APIRouter(dependencies=[Depends(known_parameters)])

    @api.get("/healthz")
    async def get_health() -> replies.Health:
        """Whether the service answers."""
        return replies.Health(status="ok")

    @api.get("/api/about")
    async def get_about() -> replies.About:
        """The run and its data."""
        return about

    @api.get("/api/examples")
    async def get_examples() -> replies.Examples:
        """Some queries and entities to start from."""
        return examples

    @api.get("/api/entities")
    def get_entities(q: Typed = "", limit: MostEntities = 10) -> list[replies.Counted]:
        """Entities whose label or name has all words of `q`.

        First come those that begin with `q`, then those whose words begin with its words. Among
        equals, those with most facts come first.
        """
        return [asking.entity(i) for i in search(q, limit)]

    @api.get("/api/relations")
    async def get_relations() -> list[replies.Counted]:
        """All relations, those with most facts first."""
        return relations

    @api.get("/api/facts")
    def get_facts(entity: Entity, limit: MostFacts = 10) -> replies.EntityFacts:
        """What the graph says of an entity: its facts by relation, types and neighbours."""
        return asking.facts(entity, limit)

    @api.get("/api/answers")
    async def get_answers(
        head: Head = ASKED,
        relation: Relation = ASKED,
        tail: Tail = ASKED,
        *,
        limit: MostAnswers = 10,
        any_type: AnyType = False,
    ) -> replies.Answers:
        """The known answers to a query, and the best new ones.

        Two of the three parts are given; the third is the query.
        """
        parts = [text or ASKED for text in (head, relation, tail)]
        return await desk.work(partial(asking.answer, parts, limit, any_type))

    @api.post("/api/answers")
    async def post_answers(asked: replies.Questions) -> replies.BatchAnswers:
        """The answers to several queries.

        A query that cannot be answered has a message in its place.
        """

        def answer(question: replies.Question) -> replies.BatchAnswer:
            parts = [text or ASKED for text in (question.head, question.relation, question.tail)]
            try:
                reply = asking.answer(parts, asked.limit, asked.any_type)
            except (ConfigError, DataError) as error:
                return replies.BatchAnswer(reply=None, message=str(error))
            return replies.BatchAnswer(reply=reply, message=None)

        found = await desk.work_all(partial(answer, question) for question in asked.questions)
        failures = sum(each.reply is None for each in found)
        return replies.BatchAnswers(replies=found, failures=failures)

    @api.get("/api/scores")
    async def get_score(head: GivenHead, relation: GivenRelation, tail: GivenTail) -> replies.Score:
        """The score and probability of a triple, and whether the graph has it."""
        return await desk.work(partial(asking.score, head, relation, tail))

    @api.post("/api/scores")
    async def post_scores(asked: replies.Triples) -> replies.Scores:
        """The scores of several triples, in their order.

        A triple with an unknown label has a reason in place of a score.
        """
        triples = [(each.head, each.relation, each.tail) for each in asked.triples]
        parts = [triples[start : start + PART] for start in range(0, len(triples), PART)]
        found = await desk.work_all(partial(asking.scores, part) for part in parts)
        scores = [score for part in found for score in part]
        failures = sum(score.reason is not None for score in scores)
        return replies.Scores(scores=scores, failures=failures)

    @api.get("/api/explanation")
    async def get_explanation(
        head: GivenHead, relation: GivenRelation, tail: GivenTail, limit: MostPaths = 10
    ) -> replies.Explanation:
        """The paths that contribute to the score of a triple; `^r` is the inverse of `r`."""
        return await desk.work(partial(asking.explanation, head, relation, tail, limit))

    app.include_router(api)
    for path, name in FILES.items():
        content = resources.files("kgtool.service").joinpath(name).read_bytes()
        app.get(path, include_in_schema=False)(_page(content, KINDS[name.rsplit(".", 1)[1]]))
    described = describe(app.openapi(), examples, failed_with).encode()
    app.get("/docs", include_in_schema=False)(_page(described, KINDS["html"]))
    return app


def _message_of_unknown(asking: Asking) -> str:
    """The message about the entity `NOBODY`."""
    try:
        asking.labels.entity(NOBODY)
    except DataError as error:
        return str(error)
    return f"unknown entity {NOBODY!r}."  # an entity has this label


def _page(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    """A route that serves a page or one of its files."""

    async def get_page() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return get_page
