"""The addresses of files and batches: which request is which call, under a name without ids."""

from __future__ import annotations

import difflib
import re

MESSAGES_PATH = "/v1/messages"
MESSAGE_BATCHES = "/v1/messages/batches"

# Each call of files and batches; settings and journal name them so.
ROUTES = (
    "POST /v1/files",
    "GET /v1/files",
    "GET /v1/files/{id}",
    "GET /v1/files/{id}/content",
    "DELETE /v1/files/{id}",
    "POST /v1/batches",
    "GET /v1/batches",
    "GET /v1/batches/{id}",
    "POST /v1/batches/{id}/cancel",
    "POST /v1/messages/batches",
    "GET /v1/messages/batches",
    "GET /v1/messages/batches/{id}",
    "GET /v1/messages/batches/{id}/results",
    "POST /v1/messages/batches/{id}/cancel",
    "DELETE /v1/messages/batches/{id}",
)
_PATTERNS = [
    (route, re.compile(re.escape(route).replace(r"\{id\}", "([^/]+)"))) for route in ROUTES
]


class UnknownRouteError(ValueError):
    """A call that does not exist; the message names the nearest ones."""

    def __init__(self, route: str) -> None:
        nearest = ", ".join(difflib.get_close_matches(route, ROUTES, n=3, cutoff=0.0))
        super().__init__(f"unknown route {route!r}; the nearest are: {nearest}")


def check_route(route: str) -> None:
    """Raise UnknownRouteError unless `route` exists."""
    if route not in ROUTES:
        raise UnknownRouteError(route)


def is_managed(path: str) -> bool:
    """Whether a path is one of files or batches, known or not."""
    return path.startswith(("/v1/files", "/v1/batches", MESSAGE_BATCHES))


def find_route(method: str, path: str) -> tuple[str, str]:
    """The route of a request and the id in it, each an empty string where there is none."""
    asked = f"{method} {path}"
    for route, pattern in _PATTERNS:
        found = pattern.fullmatch(asked)
        if found is not None:
            return route, found[1] if pattern.groups else ""
    return "", ""


def route_of(method: str, path: str) -> str:
    """The route of a request, or its method and path if it is none of files and batches."""
    return find_route(method, path)[0] or f"{method} {path}"
