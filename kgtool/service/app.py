"""The web application: a page and its JSON API.

It is read-only: it accepts only GET and writes no file. The page may load only its own style and
script, and may connect only to this server. Requests with another host name are refused; otherwise
a foreign page could reach the server by DNS rebinding.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from kgtool.errors import ConfigError, DataError, KGToolError, RunError
from kgtool.inference.predictor import Predictor
from kgtool.inference.query import ASKED
from kgtool.service import asking, replies
from kgtool.service.desk import BusyError, Desk
from kgtool.service.search import EntitySearch

LONGEST_TEXT = 2000  # characters
MOST = 100  # items of a list

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
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
STATUS: dict[type[KGToolError], int] = {
    BusyError: 503, ConfigError: 422, DataError: 404, RunError: 404,
}  # fmt: skip

Text = Annotated[str, Query(max_length=LONGEST_TEXT)]
Top = Annotated[int, Query(ge=1, le=MOST)]


def build_app(predictor: Predictor, hosts: Sequence[str], desk: Desk | None = None) -> FastAPI:
    """The application that serves a run.

    Args:
        predictor: answers queries; its fits on valid should exist already.
        hosts: the host names that requests may use.
        desk: the queue of queries.
    """
    desk = desk or Desk()
    search = EntitySearch.of(predictor.labels)
    labels = predictor.labels
    about = asking.about(predictor)
    relations = [asking.named(label, labels) for label in labels.vocabulary.relations]
    app = FastAPI(
        title="kgtool", version=about.version, docs_url=None, redoc_url=None,
        responses={status: {"model": replies.Failure} for status in (404, 422, 503)},
    )  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)

    @app.middleware("http")
    async def with_headers(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
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
        problems = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return JSONResponse({"message": f"{problems}. Remedy: see /openapi.json."}, 422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}. Remedy: GET an address of /openapi.json."
        return JSONResponse({"message": message}, error.status_code, error.headers)

    @app.get("/api/about")
    async def get_about() -> replies.About:
        """The run and its data."""
        return about

    @app.get("/api/entities")
    async def get_entities(q: Text = "", limit: Top = 10) -> list[replies.Named]:
        """Entities whose label or name begins with `q`, then those that contain it; any case."""
        entities = labels.vocabulary.entities
        return [asking.named(entities[i], labels) for i in search(q, limit)]

    @app.get("/api/relations")
    async def get_relations() -> list[replies.Named]:
        """All relations."""
        return relations

    @app.get("/api/answers")
    async def get_answers(
        head: Text = ASKED,
        relation: Text = ASKED,
        tail: Text = ASKED,
        *,
        top: Top = 10,
        new: bool = True,
        typed: bool = False,
    ) -> replies.Answers:
        """The best answers to a query: two of the three are given, as label or readable name.

        The relation may be `^r`, the inverse of `r`, or a path `r1/r2`. `new` excludes known facts;
        `typed` excludes entities that do not occur on that side of the relation in train.
        """
        parts = [text or ASKED for text in (head, relation, tail)]
        return await desk.work(lambda: asking.answer(predictor, parts, top, new, typed))

    @app.get("/api/explanation")
    async def get_explanation(
        head: Text, relation: Text, tail: Text, top: Top = 10
    ) -> replies.Explanation:
        """The paths that contribute to the score of a triple; `^r` is the inverse of `r`."""
        return await desk.work(lambda: asking.explanation(predictor, head, relation, tail, top))

    for path, name in FILES.items():
        app.get(path, include_in_schema=False)(_file(name))
    return app


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    """A route that serves one of the page's files."""
    content = resources.files("kgtool.service").joinpath(name).read_bytes()
    kind = KINDS[name.rsplit(".", 1)[1]]

    async def get_file() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return get_file
