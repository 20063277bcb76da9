"""Settings: four sources in one order, every mistake named with its file and field."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.config import SETTINGS, Config, load
from jsonl_runner.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "config.json.example"
KEY = "sk-test-aaaaaaaaaaaaaaaa0001"
OTHER = "sk-test-bbbbbbbbbbbbbbbb0002"
THIRD = "sk-test-cccccccccccccccc0003"
#: A value other than the default for every setting.
VALUES: dict[str, Any] = {
    "api_keys": [KEY, OTHER],
    "api_base": "http://127.0.0.1:8000/v1",
    "model": "m",
    "params": {"temperature": 0.5, "stop": ["a"]},
    "max_retries": 0,
    "retry_delay": 0.25,
    "timeout": 1.5,
    "connect_timeout": 2,
    "body_timeout": 3,
    "stall_timeout": 4,
    "threads": 7,
    "per_key_concurrency": 3,
    "requests_per_minute": 0.5,
    "tokens_per_minute": 1000,
    "proxy": "socks5h://127.0.0.1:9",
    "transport": "openai",
    "http2": True,
    "engine": "ray",
    "ray_address": "head:6379",
    "workers": 3,
    "key_groups": [[1, 2]],
    "max_cost": 5,
    "max_tokens_total": 1000000,
    "prices": {"m": {"input": 0.5, "output": 2.0}},
    "schema_retries": 1,
    "post": "package.module:Class.method",
    "cache": True,
    "cache_directory": "answers",
    "cache_expiry_days": 0.5,
    "cache_max_size_mb": 10,
}
#: Words for the values that are neither texts nor numbers.
SWITCHES = ("http2", "cache")


def write(path: Path, data: object) -> Path:
    text = json.dumps(data) if path.suffix == ".json" else yaml.safe_dump(data)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def plain(config: Config) -> dict[str, Any]:
    """Return settings as they stand in a file."""
    found = {name: getattr(config, name) for name in SETTINGS}
    folder = config.cache_directory
    return {**found, "api_keys": keys(config), "cache_directory": folder and str(folder)}


def keys(config: Config) -> list[str]:
    return [key.reveal() for key in config.api_keys]


def given_(**overrides: Any) -> Config:
    return load(None, overrides, {})


def test_defaults() -> None:
    """Without any source: OpenAI's address, no key, no limit, and nothing odd about it."""
    config = load(None, None, {})
    assert config == Config()
    assert plain(config) == {
        "api_keys": [],
        "api_base": "https://api.openai.com/v1",
        "model": "gpt-4.1-mini",
        "params": {},
        "max_retries": 5,
        "retry_delay": 0.5,
        "timeout": 300,
        "connect_timeout": 30,
        "body_timeout": 60,
        "stall_timeout": 1800,
        "threads": None,
        "per_key_concurrency": 16,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "proxy": None,
        "transport": "curl",
        "http2": False,
        "engine": "local",
        "ray_address": "local",
        "workers": None,
        "key_groups": [],
        "max_cost": None,
        "max_tokens_total": None,
        "prices": {},
        "schema_retries": 2,
        "post": None,
        "cache": None,
        "cache_directory": None,
        "cache_expiry_days": 7,
        "cache_max_size_mb": 1024,
    }
    assert (config.notes, config.origins) == ((), {})


def test_the_example_is_the_defaults() -> None:
    """`config.json.example` holds every setting there is, no other, with its default."""
    example = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert list(example) == list(SETTINGS)
    assert set(SETTINGS) == {field.name for field in fields(Config)} - {"notes", "origins", "file"}
    assert {**example, "api_keys": []} == plain(Config())


def test_the_examples_placeholder_is_no_key() -> None:
    """It is left out, and told; what needs no key (estimate, --simulate) is not in its way."""
    config = load(EXAMPLE, None, {})
    assert config.api_keys == ()
    (note,) = config.notes
    assert note.endswith("api_keys entry 1 is the example's placeholder; left out")
    assert keys(load(EXAMPLE, None, {"OPENAI_API_KEY": KEY})) == [KEY]


@pytest.mark.parametrize("name", ["c.json", "c.yaml", "c.yml", "c.YAML"])
def test_json_and_yaml_say_the_same(tmp_path: Path, name: str) -> None:
    """Every setting of a file of either kind is taken, one byte order mark allowed."""
    path = write(tmp_path / name, VALUES)
    assert plain(load(path, None, {})) == VALUES
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert plain(load(str(path), None, {})) == VALUES


def test_config_json_in_the_current_folder_is_taken(tmp_path: Path) -> None:
    """Only when no other is named; tests run in a folder of their own."""
    write(Path("config.json"), {"model": "here"})
    other = write(tmp_path / "other.json", {"threads": 2})
    assert load(None, None, {}).model == "here"
    assert load(other, None, {}).model == "gpt-4.1-mini"


def environment(values: dict[str, Any]) -> dict[str, str]:
    """Return settings as `JSONL_RUNNER_*`."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in {**values, "api_keys": ",".join(values["api_keys"])}.items()
    }
    return {f"JSONL_RUNNER_{name.upper()}": text for name, text in texts.items()}


def test_every_setting_can_come_from_the_environment() -> None:
    """`JSONL_RUNNER_` and its name in capitals; an empty one says nothing."""
    assert plain(load(None, None, environment(VALUES))) == VALUES
    assert load(None, None, dict.fromkeys(environment(VALUES), "")) == Config()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("THREAD", "did you mean JSONL_RUNNER_THREADS?"),
        ("MAX_COSTS", "did you mean JSONL_RUNNER_MAX_COST?"),
        ("threads", "did you mean JSONL_RUNNER_THREADS?"),
        ("BATCH_SIZE", "did you mean JSONL_RUNNER_THREADS?"),
        ("API_KEY", "did you mean JSONL_RUNNER_API_KEYS?"),
        ("TEMPERATURE", "it is a request parameter: put it into params"),
        ("", "unset it"),
        ("QQQQ", "unset it"),
    ],
)
def test_a_mistyped_name_in_the_environment_is_told(name: str, says: str) -> None:
    """Were it passed over, a limit on what may be spent would be none; the nearest is named."""
    variable = f"JSONL_RUNNER_{name}"
    with pytest.raises(ConfigError) as caught:
        load(None, None, {variable: "8"})
    assert str(caught.value) == f"environment: {variable} is no setting; {says}"
    assert load(None, None, {variable: ""}) == Config()


def test_what_a_notified_command_is_told_is_no_mistake() -> None:
    """It may well call us again."""
    told = {f"JSONL_RUNNER_BATCH_{name}": "x" for name in ("ID", "STATE", "OUTPUT")}
    assert load(None, None, told) == Config()


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported in the shell is in force."""
    monkeypatch.setenv("JSONL_RUNNER_MODEL", "exported")
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert (load().model, keys(load())) == ("exported", [KEY])


@pytest.mark.parametrize(
    "name", [name for name in VALUES if name not in {"api_keys", "params", "prices", "key_groups"}]
)
def test_argument_before_environment_before_file_before_default(tmp_path: Path, name: str) -> None:
    """For each setting the nearest source that names it decides; an argument of None names none."""
    value = VALUES[name]
    file_value: Any
    env_value: Any
    if name == "transport":  # there are two
        file_value, env_value = "openai", "curl"
    elif name == "engine":
        file_value, env_value = "ray", "local"
    elif name in SWITCHES:
        file_value, env_value = True, False
    elif isinstance(value, (int, float)):
        file_value, env_value = value + 1, value + 2
    else:
        file_value, env_value = f"{value}1", f"{value}2"
    path = write(tmp_path / "c.json", {name: file_value})
    env = {f"JSONL_RUNNER_{name.upper()}": str(env_value).replace("False", "false")}
    found = [
        load(None, {name: None}, {}),
        load(path, {name: None}, {}),
        load(path, {name: None}, env),
        load(path, {name: value}, env),
    ]
    wanted = [plain(Config())[name], file_value, env_value, value]
    assert [plain(config)[name] for config in found] == wanted
    origins = [str(path), f"environment JSONL_RUNNER_{name.upper()}", "arguments"]
    assert [config.origins.get(name) for config in found] == [None, *origins]
    assert found[1] == Config(**{name: getattr(found[1], name)}), "origins are no part of it"


def test_params_of_an_argument_add_to_those_of_the_file(tmp_path: Path) -> None:
    """A flag changes the parameter that it names and leaves the others."""
    path = write(tmp_path / "c.json", {"params": {"a": 1, "b": 2}})
    config = load(path, {"params": {"b": 3}}, {})
    assert config.params == {"a": 1, "b": 3}
    assert config.origins["params"] == f"{path}, arguments"
    assert load(path, {"params": {}}, {}).origins["params"] == str(path)
    assert load(None, {"params": {"b": 3}}, {}).origins["params"] == "arguments"


def test_where_keys_come_from(tmp_path: Path) -> None:
    """OPENAI_API_KEY, the list in OPENAI_API_KEYS, our own name; unused keys of a file are told."""
    assert keys(load(None, None, {"OPENAI_API_KEY": KEY})) == [KEY]
    both = {"OPENAI_API_KEY": KEY, "OPENAI_API_KEYS": f" {OTHER} , {THIRD} ,"}
    assert keys(load(None, None, both)) == [OTHER, THIRD]
    assert keys(load(None, None, {**both, "JSONL_RUNNER_API_KEYS": f"{KEY},{THIRD}"})) == [
        KEY,
        THIRD,
    ]
    assert keys(load(None, None, {"OPENAI_API_KEY": " ", "OPENAI_API_KEYS": " , "})) == []
    path = write(tmp_path / "c.json", {"api_keys": [KEY]})
    config = load(path, None, both)
    assert keys(config) == [OTHER, THIRD]
    assert config.notes == (f"keys come from the environment; the 1 in {path} are not used",)
    assert keys(load(path, {"api_keys": [THIRD]}, both)) == [THIRD]


def test_where_the_address_comes_from() -> None:
    """OPENAI_BASE_URL, and our own name before it."""
    env = {"OPENAI_BASE_URL": "http://one/v1"}
    assert load(None, None, env).api_base == "http://one/v1"
    assert load(None, None, {**env, "JSONL_RUNNER_API_BASE": "http://two"}).api_base == "http://two"


def test_odd_keys_are_put_right_and_told() -> None:
    """Blanks around, empty entries and repetitions: taken as meant, with a note for each."""
    config = given_(api_keys=[f" {KEY}\n", "", KEY, OTHER, "  ", OTHER])
    assert keys(config) == [KEY, OTHER]
    assert [key.label for key in config.api_keys] == ["#1(…0001)", "#2(…0002)"]
    assert config.notes == (
        "arguments: api_keys entry 1 has blanks around it; taken without them",
        "arguments: api_keys entry 2 is empty; left out",
        "arguments: api_keys entry 3 repeats key 1; used once",
        "arguments: api_keys entry 5 has blanks around it; taken without them",
        "arguments: api_keys entry 5 is empty; left out",
        "arguments: api_keys entry 6 repeats key 2; used once",
    )
    assert keys(given_(api_keys=KEY)) == [KEY]
    quoted = load(None, None, {"OPENAI_API_KEY": f'"{KEY}"'})  # as docker's --env-file leaves it
    assert keys(quoted) == [KEY]
    assert quoted.notes[0].endswith("entry 1 has quotes around it; taken without them")


@pytest.mark.parametrize("key", ["sk-test 1", "sk-\x07bell", "ключ", "two\nlines"])
def test_what_can_be_no_key(key: str) -> None:
    """A text that no header can hold is named by its place, not shown."""
    with pytest.raises(ConfigError) as caught:
        given_(api_keys=[KEY, key])
    says = str(caught.value)
    assert says.startswith("arguments: api_keys entry 2 is no key; put your own there")
    assert key not in says


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_file_with_keys_that_everybody_can_read(tmp_path: Path) -> None:
    """It warns and says how to change that; without keys, or for the owner alone, it does not."""
    path = write(tmp_path / "c.json", {"api_keys": [KEY]})
    assert load(path, None, {}).notes == ()
    path.chmod(0o644)
    (note,) = load(path, None, {}).notes
    assert note == f"{path} holds keys and everybody on this machine can read it: chmod 600 {path}"
    path.write_text("{}", encoding="utf-8")
    assert load(path, None, {}).notes == ()


def test_code_is_run_only_where_somebody_names_it(tmp_path: Path) -> None:
    """A file that merely lies in the current folder cannot name a function."""
    path = write(tmp_path / "config.json", {"post": "mine:clean"})
    with pytest.raises(ConfigError, match=r"config\.json: post names code to run"):
        load(None, None, {})
    assert load(path, None, {}).post == "mine:clean"
    path.unlink()
    assert load(None, None, {"JSONL_RUNNER_POST": "a:b"}).post == "a:b"


WRONG: dict[str, list[object]] = {
    "api_keys": [5, {"a": KEY}, [5], [None], True],
    "api_base": [5, "ftp://x", "host/v1", "http://", "http:///", "http://a b", "  ", True],
    "model": [5, "", " ", None, ["m"]],
    "params": [5, "x", [1], None, {"stream": True}, {"n": 2}, {"messages": []}],
    "max_retries": [-1, 1.5, "5", None, True, [1]],
    "retry_delay": [-0.5, "1", None, True, float("nan"), float("inf")],
    "threads": [0, -1, 1.5, "5", True],
    "per_key_concurrency": [0, 1.5, "5", None, True],
    "requests_per_minute": [0, -1, "5", True],
    "tokens_per_minute": [0, 0.5, "5", True],
    "proxy": [5, "host:1", "ftp://host", True],
    "transport": [5, "", "libcurl", None, ["curl"], True],
    "http2": [1, 0, "yes", "", None, "true"],
    "engine": [5, "", "dask", None, ["ray"], True],
    "ray_address": [5, "", "head", "host:", None, True],
    "workers": [0, -1, 1.5, "5", True],
    "key_groups": [5, "x", None, [1], [[0]], [["1"]], [[1, 1]], [[1], [1]], [[True]]],
    "max_cost": [-1, "5", True, float("nan"), float("inf")],
    "max_tokens_total": [0, 1.5, "5", True],
    "schema_retries": [-1, 1.5, "5", None, True],
    "post": [5, "", "module", "module:", ":f", "a.py:f", "a/b:f", "a:f()", True, ["a:f"]],
    "prices": [
        5,
        "x",
        [1],
        None,
        {"m": 1},
        {"m": {"input": 1}},
        {"m": {"input": "a", "output": 1}},
    ],
    "cache": [1, 0, "yes", "", "true", [True]],
    "cache_directory": [5, "  ", "a\0b", True, ["a"], "~nobody-of-this-name/a"],
    **{
        name: [0, -1, "5", None, True, float("nan"), float("inf")]
        for name in (
            *("timeout", "connect_timeout", "body_timeout", "stall_timeout"),
            *("cache_expiry_days", "cache_max_size_mb"),
        )
    },
}


def test_every_setting_is_checked() -> None:
    """None is missing in the list of wrong values."""
    assert set(WRONG) == set(SETTINGS)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in WRONG for v in WRONG[n]])
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: object) -> None:
    """By its file and its field, whatever it is."""
    path = write(tmp_path / "c.json", {"threads": 1, name: value})
    with pytest.raises(ConfigError) as caught:
        load(path, None, {})
    assert str(caught.value).startswith(f"{path}: {name} ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, WRONG[name][0]) for name in WRONG],
)
def test_a_wrong_argument_is_named(name: str, value: object) -> None:
    """Arguments are checked like a file."""
    with pytest.raises(ConfigError, match=f"^arguments: {name} "):
        given_(**{name: value})


def test_a_wrong_value_in_the_environment_is_named() -> None:
    """The environment too."""
    with pytest.raises(ConfigError, match=r"^environment: threads must be a whole number"):
        load(None, None, {"JSONL_RUNNER_THREADS": "many"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("thread", "did you mean 'threads'?"),
        ("api_key", "did you mean 'api_keys'?"),
        ("base_url", "did you mean 'api_base'?"),
        ("openai_key", "did you mean 'api_keys'?"),
        ("batch_size", "did you mean 'threads'?"),
        ("retries", "did you mean 'max_retries'?"),
        ("zzz", "known: api_keys, api_base, model, params, "),
        pytest.param("temperature", "params"),
        pytest.param("max_tokens", "params"),
    ],
)
def test_an_unknown_setting_brings_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    """A misspelt setting never counts for nothing in silence."""
    path = write(tmp_path / "c.json", {name: 1})
    with pytest.raises(ConfigError) as caught:
        load(path, None, {})
    assert str(caught.value).startswith(f"{path}: unknown setting {name!r}; ")
    assert hint in str(caught.value)


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_address_is_the_default(value: str | None, tmp_path: Path) -> None:
    """An example left empty leads to OpenAI."""
    empty = {"api_base": value, "proxy": value, "cache_directory": value}
    path = write(tmp_path / "c.json", empty)
    assert load(path, None, {}) == Config()


@pytest.mark.parametrize("tail", ["", "/", "///", "/chat/completions", "/chat/completions/"])
def test_an_address_is_taken_as_it_is_copied(tail: str) -> None:
    """With or without a slash or the endpoint behind it."""
    assert given_(api_base=f"https://host/v1{tail}").api_base == "https://host/v1"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_proxies_of_every_kind(scheme: str) -> None:
    """With a login too, which no repr shows."""
    proxy = f"{scheme}://user:password@host:1"
    config = given_(proxy=proxy)
    assert config.proxy == proxy
    assert "password" not in repr(config)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.json", '{\n"model": "x"\n"threads": 1}', ":3: not valid JSON: "),
        ("c.json", "", ": the file is empty; copy config.json.example to it"),
        ("c.json", "[]", ": must hold an object with settings"),
        ("c.yaml", "a: [1\nb: {", ":2: not valid YAML: "),
        ("c.yaml", "\n", ": the file is empty; copy config.json.example to it"),
    ],
)
def test_a_broken_file(tmp_path: Path, name: str, text: str, says: str) -> None:
    """Broken JSON or YAML names the line; all of it stands in one line."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, None, {})
    assert str(caught.value).startswith(f"{path}{says}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, or not text at all."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe{")
    for name, says in (
        ("none", "there is no such"),
        (".", "cannot be"),
        ("binary", "is not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=says):
            load(tmp_path / name, None, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("key.yaml", "1: 2\n"),
        ("on.yaml", "on: 2\n"),
        ("deep.json", "[" * 100_000),
        ("deep.yaml", "[" * 5_000),
        ("digits.json", '{"threads": %s}' % ("9" * 5_000)),
    ],
)
def test_an_odd_file_is_an_error_of_one_line(tmp_path: Path, name: str, text: str) -> None:
    """Nothing that a file can hold makes a traceback."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=name):
        load(path, None, {})


@given(
    st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=9), min_size=1)
)
def test_no_repr_shows_a_key(texts: list[str]) -> None:
    """For every list of keys: neither repr nor str of the settings holds one of them."""
    unique = list(dict.fromkeys(texts))
    config = given_(api_keys=[f"{text}{number}" for number, text in enumerate(unique)])
    assert len(config.api_keys) == len(unique)
    for key in keys(config):
        assert key not in repr(config)
        assert key not in str(config)
