"""What the documents say is what happens: every block of the README is executed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from support import KEYS, read_ledger

from jsonl_runner.cli.main import cli
from jsonl_runner.config import SETTINGS, Config, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonl_runner.simulator import Simulator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs" / "guide").glob("*.md"))
}
TRANSLATIONS = {
    path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("README.*.md"))
}
BLOCK = re.compile(r"(?:<!-- command: (\w+) -->\n)?```(\w+)\n(.*?)\n```", re.DOTALL)


def blocks(language: str, page: str = README) -> list[str]:
    """Return a page's blocks in a language, but for the two that set everything up."""
    return [text for name, kind, text in BLOCK.findall(page) if kind == language and not name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a reader of the README has it, with the README's own data."""
    for name in ("config.json.example", "data"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "data.jsonl").write_text(blocks("json")[0] + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `jsonl-runner` is this checkout's."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    script = scripts / "jsonl-runner"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jsonl_runner "$@"\n')
    script.chmod(0o755)
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def execute(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    result = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, f"{words[-1]}\n{result.stdout}{result.stderr}"


def shell(text: str, folder: Path, environment: dict[str, str]) -> None:
    execute(["sh", "-ec", text], folder, environment)


def use_simulator(folder: Path, simulator: Simulator) -> None:
    """Do what the README asks the reader to: put keys into config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"api_keys": list(KEYS), "api_base": simulator.base_url}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="the README's blocks are for a POSIX shell")
def test_every_block_of_the_readme_runs(
    folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    """Shell and Python blocks run in the README's order and leave what it promises."""
    *shell_blocks, serve, practise = blocks("sh")
    for block in shell_blocks:
        shell(block, folder, environment)
        if block.startswith("cp "):
            use_simulator(folder, simulator)
    merged = json.loads((folder / "merged.json").read_text(encoding="utf-8"))
    assert [item["index"] for item in merged] == ["0", "b7", "2"]
    for block in blocks("python"):
        execute([sys.executable, "-c", block], folder, environment)
    assert '"THE LIBRARY OPENS AT NINE."' in (folder / "upper.jsonl").read_text(encoding="utf-8")
    run_the_practice(serve, practise, folder, environment)


@pytest.mark.skipif(os.name == "nt", reason="the guide's blocks are for a POSIX shell")
@pytest.mark.parametrize("page", GUIDE)
def test_every_block_of_the_guide_runs(
    page: str, folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    """Shell and Python blocks of each page run in order, for whoever has read the README."""
    shutil.copy(folder / "config.json.example", folder / "config.json")
    use_simulator(folder, simulator)
    shell("jsonl-runner run data.jsonl output.jsonl", folder, environment)
    found = [(kind, text) for _, kind, text in BLOCK.findall(GUIDE[page])]
    assert any(kind in {"sh", "python"} for kind, _ in found)
    for kind, text in found:
        if kind == "sh":
            shell(text, folder, environment)
        elif kind == "python":
            execute([sys.executable, "-c", text], folder, environment)


def test_links_between_the_documents_lead_somewhere() -> None:
    """A link to a file of this project names one that is there."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def untranslated(page: str) -> dict[str, object]:
    """What of a page is no language: the same in the README and in each of its translations.

    A translation may order its sentences, and so the links and the code in them, as it likes.
    """
    prose = BLOCK.sub("", page)
    targets = set(re.findall(r"\]\(([^)]+)\)", prose))
    return {
        "blocks": BLOCK.findall(page),
        "headings, points and table rows": re.findall(r"^(?:#+ |- |\|)", prose, re.MULTILINE),
        "links": targets - {"README.md", *TRANSLATIONS},
        "code": {" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)},
    }


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_translation_has_everything_that_the_readme_has(name: str) -> None:
    """Blocks, headings, tables, links and code; whoever changes one README changes all."""
    translation = untranslated(TRANSLATIONS[name])
    for what, there in untranslated(README).items():
        assert translation[what] == there, f"{name}: {what}"


def test_each_readme_leads_to_its_translations_and_is_packed() -> None:
    """The first line names the other languages, and the source archive holds every one."""
    pages = {"README.md": README, **TRANSLATIONS}
    assert set(pages) >= {"README.zh.md", "README.ja.md"}
    for name, page in pages.items():
        first = page.split("\n\n")[1]
        assert set(re.findall(r"\]\(([^)]+)\)", first)) == set(pages) - {name}, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(pages) <= set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])


def run_the_practice(serve: str, practise: str, folder: Path, environment: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = serve.replace("8000", port).split()
    words[0] = str(folder / "bin" / "jsonl-runner")
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        assert port in server.stdout.readline().decode()
        try:
            shell(practise.replace("8000", port), folder, environment)
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


def test_the_set_up_commands_are_those_ci_executes() -> None:
    """`.ci/run` takes the two set-up commands out of the README by their names."""
    named = {name: text for name, kind, text in BLOCK.findall(README) if name}
    assert set(named) == {"try", "test"}
    assert "--simulate" in named["try"]
    assert "pytest" in named["test"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command try" in script
    assert "readme_command test" in script


def test_the_example_configuration_equals_the_defaults() -> None:
    """Whoever copies config.json.example has changed nothing yet, and sees every setting."""
    example = json.loads((ROOT / "config.json.example").read_text(encoding="utf-8"))
    assert set(example) == set(SETTINGS)
    del example["api_keys"]
    defaults = Config()
    assert example == {name: getattr(defaults, name) for name in example}
    assert load(None, example, {}) == defaults


def test_every_setting_stands_in_the_guide() -> None:
    """The table of settings is complete."""
    for name in SETTINGS:
        assert f"| `{name}` |" in GUIDE["settings"]


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


@pytest.mark.parametrize(("name", "command"), list(commands(cli)), ids=str)
def test_every_command_is_documented(name: str, command: click.Command) -> None:
    """A command stands in the documents, has an example in its help, its options have words."""
    pages = (README, *GUIDE.values())
    assert any(f"jsonl-runner {name}" in page or f"`{name}`" in page for page in pages)
    assert f"jsonl-runner {name}" in (command.help or "")
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{name} {param.opts}"


MIGRATING = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")


def test_every_block_of_the_migration_guide_runs(
    folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    """What was written for the older toolkits runs, with only its import line changed."""
    found = [text for _, kind, text in BLOCK.findall(MIGRATING) if kind == "python"]
    assert len(found) >= 9
    shutil.copy(folder / "config.json.example", folder / "config.json")
    use_simulator(folder, simulator)
    texts = folder / "texts" / "sub"
    texts.mkdir(parents=True)
    (texts / "small.txt").write_text("A cat.", encoding="utf-8")
    (folder / "texts" / "long.txt").write_text("A sentence on ships.\n" * 40, encoding="utf-8")
    for block in found:
        execute([sys.executable, "-c", block], folder, environment)
    titles = {path.relative_to(folder).as_posix() for path in (folder / "titles").rglob("*.json")}
    assert titles == {"titles/long.json", "titles/sub/small.json"}
    assert (folder / "upper" / "sub" / "small.txt").read_text(encoding="utf-8") == "A CAT."
    assert len(read_ledger(folder / "brief.jsonl")) == 3
    assert json.loads((folder / "merged.json").read_text(encoding="utf-8"))[0]["output"]
