"""The house plan: who may import whom, and how big a room may grow."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "jsonl_runner"

#: A room may import rooms on lower floors only: never its own floor, never above.
FLOORS = [
    {
        "errors",
        "clock",
        "secret",
        "indexes",
        "attempts",
        "backoff",
        "concurrency",
        "jsontext",
        "simulator",
        "snapshot",
        "terminal",
        "images",
        "budget",
        "refusals",
        "repeats",
        "disk",
    },
    {
        "limits",
        "buckets",
        "schemas",
        "appendfile",
        "strangers",
        "lines",
        "atomic",
        "configfile",
        "locking",
        "claims",
        "signals",
        "tokens",
        "pricing",
        "events",
        "eventlog",
        "statefile",
        "templates",
        "offsets",
        "encodings",
        "remote",
    },
    {"pricefile", "records", "rows", "answerformat", "quality", "shaping", "indexfile"},
    {"sources"},
    {"dataset"},
    {
        "settings",
        "prompts",
        "framing",
        "reader",
        "fitting",
        "summary",
        "retry",
        "breaker",
        "key",
        "tree",
        "cachefile",
        "table",
        "post",
        "ledger",
        "calllog",
    },
    {
        "config",
        "costs",
        "answers",
        "keys",
        "survey",
        "transport",
        "grid",
        "live",
        "spread",
        "review",
        "provenance",
    },
    {"spending", "choice", "offers", "exports", "familiar", "outputs", "recall", "turns"},
    {"recipes", "judging", "bill"},
    {
        "worker",
        "preview",
        "estimate",
        "callers",
        "streaming",
        "progress",
        "tally",
        "guards",
        "merge",
        "compact",
        "status",
        "report",
        "joining",
        "cache",
    },
    {"engines", "cached", "batch", "metrics", "lookout"},
    {"assembly", "convert", "watching"},
    {"fleet", "job"},
    {"runner", "answering", "keycheck", "session", "models", "folder"},
    {"aio", "conversation", "steps", "texts", "questions", "passes"},
    {"toolkit", "compat"},
    {"cli"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FRONT_DOOR = {"__init__", "__main__"}
OUTSIDE = len(FLOORS)  # the front door is for guests: no room imports through it
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
#: The cli shows the version, which stands in the front door for the build to read.
VERSION = "jsonl_runner.__version__"


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield every room of ours the module imports, lazy and TYPE_CHECKING imports included."""
    package = ["jsonl_runner", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join(base + ([node.module] if node.module else []))
            targets = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == "jsonl_runner" and target != VERSION:
                yield parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else "__init__"


MODULES = sorted(PACKAGE.rglob("*.py"))


def module_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_only_point_down(path: Path) -> None:
    """No room knows its own floor or one above."""
    room = room_of(path)
    if room in FRONT_DOOR:
        return
    assert room in FLOOR_OF, f"{room} has no floor: add it to FLOORS"
    upward = {
        other
        for other in imported_rooms(parse(path), path)
        if other != room and FLOOR_OF.get(other, OUTSIDE) >= FLOOR_OF[room]
    }
    assert not upward, f"{room} must not import {sorted(upward)}"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_children_do_not_import_from_their_own_package(path: Path) -> None:
    """A file of a family imports its siblings by name, never the family's doorway: no cycles."""
    if path.parent == PACKAGE or path.name == "__init__.py":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            assert node.module, f"line {node.lineno}: `from . import` goes through the doorway"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_rooms_stay_small(path: Path) -> None:
    """A file and a function fit into a head."""
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


def test_every_floor_has_its_rooms() -> None:
    """The plan names no room that is not there."""
    assert {room_of(path) for path in MODULES} - FRONT_DOOR == set(FLOOR_OF)


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("from .runner import run", {"runner"}),
        ("from . import keys", {"keys"}),
        ("from jsonl_runner import ParallelToolkit", {"__init__"}),
        ("import jsonl_runner.cli.main", {"cli"}),
        ("def f():\n    from .worker import Worker", {"worker"}),
        ("import os\nfrom . import __version__", set()),
    ],
)
def test_the_guard_sees_every_form_of_import(source: str, rooms: set[str]) -> None:
    """An import is found however it is written, lazy ones too."""
    assert set(imported_rooms(ast.parse(source), PACKAGE / "ledger.py")) == rooms
