"""`jsonl-runner config`: what is in force and where it came from, and a file to begin with."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from support import KEYS

from jsonl_runner.cli.main import cli
from jsonl_runner.config import SETTINGS, Config, load
from jsonl_runner.errors import ConfigError
from jsonl_runner.settings.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Stage

PASSWORD = "pa55word"


def write(data: object, name: str = "settings.json") -> str:
    path = Path(name)
    path.write_text(json.dumps(data), encoding="utf-8")
    path.chmod(0o600)
    return name


def told(*words: str, **environ: str) -> tuple[str, str]:
    """Run a command in this process; return what stands on stdout and stderr."""
    result = CliRunner().invoke(cli, ["config", *words], env=environ, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def table(*words: str, **environ: str) -> dict[str, tuple[str, str]]:
    """Return the value and the origin of each setting as `config show` prints them."""
    head, *lines = told("show", *words, **environ)[0].splitlines()
    assert head.split() == ["setting", "value", "from"]
    rows = [re.split(r" {2,}", line) for line in lines]
    return {name: (value, origin) for name, value, origin in rows}


def test_every_setting_is_shown() -> None:
    """With nothing set: each default, and what an unset one means."""
    shown = table()
    assert list(shown) == list(SETTINGS)
    assert {origin for _, origin in shown.values()} == {"default"}
    assert shown["api_keys"] == ("none", "default")
    assert shown["model"] == ("gpt-4.1-mini", "default")
    assert shown["threads"] == ("null (keys x 16)", "default")
    assert shown["params"] == ("{}", "default")
    assert shown["retry_delay"] == ("0.5", "default")


def test_where_each_came_from() -> None:
    """File, name in a group, environment and option, the one in force."""
    openai = {"api_key": KEYS[0], "model": "of-the-file", "temperature": 0.5}
    path = write({"openai": openai, "timeout": 5, "max_retries": 1, "http2": True})
    environ = {"JSONL_RUNNER_MAX_RETRIES": "2", "OPENAI_BASE_URL": "http://host/v1"}
    shown = table("--config", path, "--transport", "openai", **environ)
    assert shown["api_keys"] == ("#1(…0001)", f"{path} (openai.api_key)")
    assert shown["model"] == ("of-the-file", f"{path} (openai.model)")
    assert shown["params"] == ('{"temperature": 0.5}', f"{path} (openai.temperature)")
    assert shown["timeout"] == ("5", path)
    assert shown["http2"] == ("true", path)
    assert shown["max_retries"] == ("2", "environment JSONL_RUNNER_MAX_RETRIES")
    assert shown["api_base"] == ("http://host/v1", "environment OPENAI_BASE_URL")
    assert shown["transport"] == ("openai", "option --transport")
    assert shown["body_timeout"] == ("60", "default")


def test_as_json() -> None:
    """For programs: the values as they are, keys by their labels."""
    path = write({"api_keys": KEYS, "threads": 3, "cache": {"directory": "a"}})
    rows = json.loads(told("show", "--json", "--config", path)[0])
    assert [row["setting"] for row in rows] == list(SETTINGS)
    shown = {row["setting"]: (row["value"], row["origin"]) for row in rows}
    assert shown["api_keys"] == (["#1(…0001)", "#2(…0002)"], path)
    assert shown["threads"] == (3, path)
    assert shown["cache_directory"] == ("a", f"{path} (cache.directory)")
    assert shown["proxy"] == (None, "default")


def test_many_keys_do_not_fill_the_screen() -> None:
    """Ten labels, and how many more there are; JSON has them all."""
    path = write({"api_keys": [f"sk-test-{number:012}" for number in range(50)]})
    value, _ = table("--config", path)["api_keys"]
    assert value.endswith("#10(…0009) and 40 more")
    rows = json.loads(told("show", "--json", "--config", path)[0])
    assert len(rows[0]["value"]) == 50


def test_what_is_odd_is_told_beside_it() -> None:
    """Notes go to stderr, and --quiet leaves them out."""
    path = write({"api_keys": [KEYS[0], KEYS[0]]})
    out, err = told("show", "--config", path)
    assert "api_keys entry 2 repeats key 1" in err
    assert "repeats" not in out


TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=9)


@given(TEXTS, st.sampled_from([(), ("--json",)]))
@settings(max_examples=50)
def test_no_key_is_shown_wherever_it_stands(text: str, words: tuple[str, ...]) -> None:
    """For every key: not where it belongs, nor in any other setting that somebody put it into."""
    key = f"sk-{text}"
    data: dict[str, Any] = {
        "api_keys": [key],
        "api_base": f"http://host/{key}",
        "model": f"m {key}",
        "params": {"user": key, "metadata": {"a": [key]}},
        "proxy": f"http://host/{key}",
        "cache": {"directory": f"a/{key}".replace("~", "-")},
    }
    out, err = told("show", *words, "--config", write(data))
    if "~" in key:
        out = out.replace(key.replace("~", "-"), "")
    assert key not in out + err
    assert json.dumps(key)[1:-1] not in out


def test_no_part_of_a_key_is_shown() -> None:
    """What looks like a login inside a key does not keep the rest of it from being known."""
    key = "sk-first://second@third"
    out, _ = told("show", "--config", write({"api_keys": key, "model": f"m {key}"}))
    assert "m #1(…hird)" in out
    assert "first" not in out
    assert "second" not in out


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("login", [f"user:{PASSWORD}", f"user:a/{PASSWORD}", f"a@b:{PASSWORD}"])
def test_no_login_is_shown(login: str, words: tuple[str, ...]) -> None:
    """Neither of an address nor of a proxy, nor one with a slash or an @ that should be coded."""
    data = {"api_base": f"http://{login}@host/v1", "proxy": f"socks5h://{login}@host:1"}
    out, err = told("show", *words, "--config", write(data))
    assert PASSWORD not in out + err
    assert "http://…@host/v1" in out
    assert "socks5h://…@host:1" in out


def test_no_secret_among_the_parameters_is_shown() -> None:
    """A parameter whose name says that it is one; numbers are none."""
    headers = {"Authorization": f"Bearer {PASSWORD}", "tokens": [PASSWORD], "X-Title": "mine"}
    params = {"extra_headers": headers, "max_tokens": 5}
    value, _ = table("--config", write({"params": params}))["params"]
    hidden = {"Authorization": "…", "tokens": "…", "X-Title": "mine"}
    assert json.loads(value) == {"extra_headers": hidden, "max_tokens": 5}


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_whatever_a_file_can_hold_can_be_shown(words: tuple[str, ...]) -> None:
    """Half an emoji, a number beyond 64 bits, a date, a name that is a number, a line's end."""
    path = write({"params": {"a": "\ud83d", "\ud83d": 10**30}, "threads": 10**30, "model": "m\nn"})
    out, _ = told("show", *words, "--config", path)
    assert out.count(str(10**30)) == 2
    assert '"m\\nn"' in out
    for text, shown in (("day: 2024-01-02", '"2024-01-02"'), ("5: 6", '"5": 6')):
        Path("c.yaml").write_text(f"params: {{{text}}}\n", encoding="utf-8")
        assert shown in told("show", *words, "--config", "c.yaml")[0]


def test_a_wrong_setting_is_one_line(stage: Stage) -> None:
    """As for every other command."""
    path = stage.config_file(thread=1)
    result = stage.cli("config", "show", "--config", path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: {path}: unknown setting 'thread'; did you mean 'threads'?\n"


# --- config init


def uncommented(text: str) -> dict[str, Any]:
    """Return the file with every setting in it taken out of its comment."""
    data = yaml.safe_load(re.sub(r"^( *)#(?=\w+: )", r"\1", text, flags=re.MULTILINE))
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("name", ["config.yaml", "a.yml", "a.json", "A.YAML"])
def test_a_new_file_changes_nothing(name: str) -> None:
    """It loads as the defaults, from the first moment on."""
    told("init", name)
    assert load(name, None, {}) == Config()


def test_a_new_file_has_every_setting_with_its_words() -> None:
    """Each in its comment, with its default; taken out of the comment it is still the default."""
    told("init")
    text = Path("config.yaml").read_text(encoding="utf-8")
    flowing = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    for setting in TABLE:
        assert setting.words in flowing, setting.name
    write(uncommented(text), "plain.json")
    config = load("plain.json", None, {})
    assert config == Config()
    commented = set(SETTINGS) - {"api_keys"}
    assert set(config.origins) == commented
    assert config.origins["threads"] == "plain.json (parallel.batch_size)"


def test_the_examples_for_keys_are_right() -> None:
    """A variable for a key works once its # is gone; the placeholder is no key."""
    told("init")
    text = Path("config.yaml").read_text(encoding="utf-8")
    Path("env.yaml").write_text(text.replace("#- ${", "- ${"), encoding="utf-8")
    assert load("env.yaml", None, {"OPENAI_API_KEY": KEYS[0]}).api_keys[0].reveal() == KEYS[0]
    Path("own.yaml").write_text(text.replace("#- sk", "- sk"), encoding="utf-8")
    assert load("own.yaml", None, {}).api_keys == ()


def test_json_has_every_setting() -> None:
    """Without words, which JSON cannot hold."""
    told("init", "new.json")
    assert list(json.loads(Path("new.json").read_text(encoding="utf-8"))) == list(SETTINGS)


def born(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Return what tells the modes of the files that were made, each as it was when it was empty."""
    modes: list[int] = []
    opened = os.open

    def watching(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor = opened(path, flags, mode, **more)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watching)
    return lambda: modes


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("words", [(), ("--force",)])
def test_nobody_else_can_ever_read_it(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Mode 0600 when it is made, under the laxest umask, and over a file that all could read."""
    if words:
        Path("config.yaml").touch(0o666)
    modes, before = born(monkeypatch), os.umask(0)
    try:
        told("init", *words)
    finally:
        os.umask(before)
    assert modes() == [0o600]
    assert stat.S_IMODE(Path("config.yaml").stat().st_mode) == 0o600
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


def test_a_file_that_is_there_stays(stage: Stage) -> None:
    """Without --force nothing is replaced, a link that leads nowhere included; with it all is."""
    (stage.folder / "config.yaml").write_text("model: mine\n", encoding="utf-8")
    result = stage.cli("config", "init")
    assert result.returncode == 2
    assert result.stderr == "error: config.yaml is there already: --force replaces it\n"
    assert load("config.yaml", None, {}).model == "mine"
    told("init", "--force")
    assert load("config.yaml", None, {}) == Config()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links() -> None:
    """A link is not written through without --force, and stays a link with it."""
    Path("real.yaml").write_text("model: mine\n", encoding="utf-8")
    Path("link.yaml").symlink_to("real.yaml")
    Path("nowhere.yaml").symlink_to("none.yaml")
    for name in ("link.yaml", "nowhere.yaml"):
        result = CliRunner().invoke(cli, ["config", "init", name])
        assert isinstance(result.exception, ConfigError)
    assert not Path("none.yaml").exists()
    told("init", "link.yaml", "--force")
    assert Path("link.yaml").is_symlink()
    assert load("real.yaml", None, {}) == Config()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("settings.toml", "settings.toml: its name must end in one of .yaml, .yml, .json"),
        ("settings", "settings: its name must end in one of .yaml, .yml, .json"),
        ("folder.yaml", "folder.yaml: this is a directory; give a file name"),
        ("none/a.yaml", "none/a.yaml: cannot be written (No such file or directory)"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--force",)])
def test_a_place_where_no_file_can_be(path: str, says: str, words: tuple[str, ...]) -> None:
    """One line, and nothing is left behind."""
    Path("folder.yaml").mkdir()
    result = CliRunner().invoke(cli, ["config", "init", path, *words])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == says
    assert [entry.name for entry in Path().iterdir()] == ["folder.yaml"]


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_a_full_disk_leaves_no_half_file(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """What could not be written whole is not there, and what was there stays."""
    if words:
        Path("config.yaml").write_text("model: mine\n", encoding="utf-8")

    def full(descriptor: int, *_: Any, **__: Any) -> None:
        os.close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    result = CliRunner().invoke(cli, ["config", "init", *words])
    assert str(result.exception) == "config.yaml: cannot be written (No space left on device)"
    assert [path.name for path in Path().iterdir()] == ["config.yaml"] * len(words)
    if words:
        assert load("config.yaml", None, {}).model == "mine"


def test_it_says_what_to_do_next() -> None:
    """With the option where it is needed, and a word on a second file beside it."""
    _, err = told("init")
    assert err.splitlines() == [
        "config.yaml is written; only you can read it",
        "next: put your keys in, then jsonl-runner keys check",
    ]
    _, err = told("init", "other.yaml")
    assert err.endswith("then jsonl-runner keys check --config other.yaml\n")
    _, err = told("init", "config.json")
    assert err.splitlines()[1:] == [
        "next: put your keys in, then jsonl-runner keys check --config config.json",
        "note: config.yaml is here too: remove one of them, or name one with --config",
    ]
