"""The contestants: how each is called, and the environments of those that are not ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import HERE, cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNNER = "jsonl-runner"
BARE = "bare-pycurl"
#: The program of this checkout.
PROGRAM = [sys.executable, "-m", "jsonl_runner"]
#: Calls in flight grow by doubling, from one a key: more keys mean a quicker start.
KEYS = 4


@dataclass(frozen=True)
class Contestant:
    """One program of the comparison.

    Attributes:
        name: how the tables call it.
        python: the interpreter of its environment.
        adapter: the module that drives it; empty for the program of this checkout.
        peer: it is somebody else's, so it counts for "the best peer".
        most: calls in flight that it can make at the most, None if any number.
        note: what a reader of the table must know.
        options: what the program of this checkout is called with.
        environment: variables it needs.
        patience: it gets so many times a cell's bound; a rate of ours must not come from a run
            that was ended.
    """

    name: str
    python: str = sys.executable
    adapter: str = ""
    peer: bool = False
    most: int | None = None
    note: str = ""
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    patience: int = 1

    def command(self, folder: Path, base_url: str, in_flight: int) -> list[str]:
        """Return the command that does data.jsonl of a folder, the result beside it."""
        data, output = str(folder / "data.jsonl"), str(folder / "output.jsonl")
        if self.adapter:
            module = f"benchmarks.contestants.{self.adapter}"
            return [self.python, "-m", module, data, output, base_url, str(in_flight)]
        config = write_config(folder, base_url)
        threads = ["--threads", str(in_flight)]
        return [*PROGRAM, "run", data, output, "--config", config, *threads, "-q", *self.options]


def write_config(folder: Path, base_url: str) -> str:
    """Write config.json for the program of this checkout."""
    path = folder / "config.json"
    keys = [f"sk-benchmark-{number:04}" for number in range(KEYS)]
    path.write_text(json.dumps({"api_keys": keys, "api_base": base_url}), encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def _ours() -> list[Contestant]:
    return [
        Contestant(RUNNER, patience=5),
        Contestant(
            f"{RUNNER} --transport openai",
            options=("--transport", "openai"),
            note="the same program, its calls made by the openai SDK",
        ),
        Contestant(
            BARE,
            adapter="bare_pycurl",
            note="the floor: no ledger, the answers thrown away",
            patience=5,
        ),
        Contestant("sdk-threads", adapter="sdk_threads", note="the openai SDK by hand"),
    ]


def all_contestants() -> list[Contestant]:
    """Return all contestants; the peers' environments need not be there yet."""
    listed = tomllib.loads((HERE / "peers.toml").read_text(encoding="utf-8"))
    peers = [
        Contestant(
            f"{peer['name']} {peer['version']}",
            python=str(_environment(peer.get("environment", peer["name"])) / "bin" / "python"),
            adapter=peer["adapter"],
            peer=True,
            most=peer.get("most"),
            note=peer.get("note", ""),
            environment=listed["environment"] | peer.get("variables", {}),
        )
        for peer in listed["peer"]
    ]
    return _ours() + peers


def chosen(names: Iterable[str]) -> list[Contestant]:
    """Return the contestants whose names begin with one of `names`; all if there are none."""
    wanted = [name.strip() for name in names if name.strip()]
    everyone = all_contestants()
    if not wanted:
        return everyone
    exact = {contestant.name for contestant in everyone}
    for name in wanted:
        if not any(known.startswith(name) for known in exact):
            sys.exit(f"benchmarks: there is no contestant {name!r}; see --list")
    return [
        contestant
        for contestant in everyone
        if any(
            contestant.name == name or (name not in exact and contestant.name.startswith(name))
            for name in wanted
        )
    ]


def prepare(contestants: Iterable[Contestant]) -> list[Contestant]:
    """Install what is missing; return the contestants that can run, say which cannot."""
    pythons = {contestant.python for contestant in contestants}
    listed = tomllib.loads((HERE / "peers.toml").read_text(encoding="utf-8"))
    for install in listed["install"]:
        folder = _environment(install["environment"])
        if str(folder / "bin" / "python") in pythons:
            _install(folder, install["requirements"], install.get("without_dependencies", []))
    ready = []
    for contestant in contestants:
        if Path(contestant.python).exists():
            ready.append(contestant)
        else:
            print(f"left out: {contestant.name} (could not be installed)", file=sys.stderr)
    return ready


def plot_python() -> str:
    """Return an interpreter with matplotlib."""
    folder = _environment("plot")
    _install(folder, ["matplotlib>=3.10,<4"], [])
    return str(folder / "bin" / "python")


def _environment(name: str) -> Path:
    return cache_folder() / "venvs" / name


def _install(folder: Path, requirements: list[str], alone: list[str]) -> None:
    """Make an environment once; a half-made one is made anew, a changed list too."""
    stamp, wanted = folder / "installed.json", json.dumps([requirements, alone])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing {' '.join(requirements + alone)}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    pip.append("--disable-pip-version-check")
    for extra, packages in ((), requirements), (("--no-deps",), alone):
        if packages and subprocess.run([*pip, *extra, *packages], check=False).returncode != 0:
            shutil.rmtree(folder)
            return
    stamp.write_text(wanted, encoding="utf-8")
