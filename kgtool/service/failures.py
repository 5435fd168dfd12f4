"""The errors of the API: each status with its meaning, and an example of its message."""

from __future__ import annotations

import json
from dataclasses import dataclass

LARGEST_BODY = 4 << 20  # bytes
OTHER_HOST = (
    "the request names another host. Remedy: use the address that the service printed at its "
    "start, or start it with --host."
)
TOO_LARGE = (
    f"the body is larger than {LARGEST_BODY:,} bytes, or has no length. "
    "Remedy: send smaller batches, with a Content-Length."
)
NOBODY = "no such entity"  # a label that no graph has


@dataclass(frozen=True)
class Failed:
    """A status of the API.

    Attributes:
        meaning: when a request gets it.
        message: an example of the message.
        path: an address that gets this status and message, if one always does.
        options: what curl needs in addition to the address, as words of a shell; empty for an
            address that a browser can open.
        before: a command whose output curl reads.
    """

    meaning: str
    message: str
    path: str = ""
    options: str = ""
    before: str = ""

    @property
    def reply(self) -> str:
        """The example of its message as the JSON of a reply."""
        return json.dumps({"message": self.message}, ensure_ascii=False)

    @property
    def request(self) -> str:
        """A request that gets this reply: the address, or a command if a browser cannot send it."""
        return f"{self.before}curl {self.options}ADDRESS{self.path}" if self.options else self.path


def failures(unknown: str, most: int) -> dict[int, Failed]:
    """Each status with its meaning.

    Args:
        unknown: the message about the entity `NOBODY`.
        most: the most requests in the queue.
    """
    return {
        400: Failed(
            "The request names another host, or its body cannot be read as JSON.",
            OTHER_HOST, "/healthz", "-H 'Host: example.org' ",
        ),
        404: Failed(
            "The address or a label is unknown, or the model has no explanations.",
            unknown, f"/api/facts?entity={NOBODY.replace(' ', '+')}",
        ),
        413: Failed(
            f"The body is larger than {LARGEST_BODY >> 20} MiB, or has no length.",
            TOO_LARGE, "/api/scores", "--data-binary @- ",
            f"head -c {LARGEST_BODY + 1} /dev/zero | ",
        ),
        422: Failed(
            "A parameter or field is missing, unknown, given twice, or has an invalid value.",
            "unknown parameter 'colour'. Remedy: leave it out; see /docs.",
            "/api/about?colour=red",
        ),
        500: Failed(
            "The model cannot score the query.",
            "the model gave a score that is NaN or infinite for (HEAD, RELATION, ?): such scores "
            "cannot be ranked. Remedy: train again with a lower learning rate, or check the "
            "weights.",
        ),
        503: Failed(
            f"{most} requests are waiting already. The header `Retry-After` has the seconds to "
            "wait.",
            f"{most} queries are waiting already. Remedy: try again soon.",
        ),
    }  # fmt: skip
