"""Files in the form of other tools: groups, names from the environment; the waits of a retry."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support import KEYS

from jsonl_runner.assembly import assemble
from jsonl_runner.backoff import ROW
from jsonl_runner.clock import Stop
from jsonl_runner.config import SETTINGS, Config, load
from jsonl_runner.errors import ConfigError
from jsonl_runner.records import Record
from jsonl_runner.settings.table import TABLE

if TYPE_CHECKING:
    from support import FakeClock, Stage

GUIDE = (Path(__file__).parents[1] / "docs" / "guide" / "settings.md").read_text(encoding="utf-8")
#: As people have it from other tools.
COMMON = """\
openai:
  api_key: sk-test-aaaaaaaaaaaaaaaa0001
  model: gpt-4.1
  temperature: 0.2
  max_tokens: 500
parallel:
  batch_size: 20
  max_retries: 3
  retry_delay: 2
cache:
  enabled: true
  directory: .cache
  expiry_days: 30
"""
VALUES: dict[str, Any] = {
    "api_keys": list(KEYS),
    "api_base": "http://127.0.0.1:8000/v1",
    "model": "m",
    "max_retries": 0,
    "retry_delay": 0.25,
    "timeout": 1.5,
    "threads": 7,
    "cache": False,
    "cache_directory": "answers",
    "cache_expiry_days": 0.5,
    "cache_max_size_mb": 10,
    "stall_timeout": 60,
}


def write(path: Path, data: object) -> Path:
    text = data if isinstance(data, str) else json.dumps(data)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def refused(path: Path, environ: dict[str, str] | None = None) -> str:
    """Load a file that must not load; return the one line behind its name."""
    with pytest.raises(ConfigError) as caught:
        load(path, None, environ or {})
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["c.yaml", "c.json"])
def test_a_file_in_groups(tmp_path: Path, name: str) -> None:
    """The usual form is understood in YAML and in JSON, and every setting knows its name there."""
    path = write(tmp_path / name, COMMON if name == "c.yaml" else yaml.safe_load(COMMON))
    config = load(path, None, {})
    assert [key.reveal() for key in config.api_keys] == [KEYS[0]]
    assert (config.model, config.threads) == ("gpt-4.1", 20)
    assert config.params == {"temperature": 0.2, "max_tokens": 500}
    assert (config.max_retries, config.retry_delay) == (3, 2)
    assert (config.cache, config.cache_directory) == (True, Path(".cache"))
    assert (config.cache_expiry_days, config.cache_max_size_mb) == (30, 1024)
    assert config.origins == {
        "api_keys": f"{path} (openai.api_key)",
        "model": f"{path} (openai.model)",
        "params": f"{path} (openai.temperature, openai.max_tokens)",
        "threads": f"{path} (parallel.batch_size)",
        "max_retries": f"{path} (parallel.max_retries)",
        "retry_delay": f"{path} (parallel.retry_delay)",
        "cache": f"{path} (cache.enabled)",
        "cache_directory": f"{path} (cache.directory)",
        "cache_expiry_days": f"{path} (cache.expiry_days)",
    }


NAMES = {setting.name: (setting.name, *setting.grouped) for setting in TABLE}


@given(names=st.fixed_dictionaries({name: st.sampled_from(NAMES[name]) for name in VALUES}))
def test_groups_and_flat_names_mix(names: dict[str, str]) -> None:
    """For every choice of a name for each setting, a file says the same as with the flat ones."""
    data: dict[str, Any] = {}
    for name, written in names.items():
        group, _, inner = written.rpartition(".")
        if group == "cache" and names["cache"] == "cache":
            continue  # one file has `cache` as a switch or as a group
        (data.setdefault(group, {}) if group else data)[inner] = VALUES[name]
    wanted = {name: VALUES[name] for name in names if names[name] in _dotted(data)}
    mixed = load(write(Path("mixed.json"), data), None, {})
    flat = load(write(Path("flat.json"), wanted), None, {})
    assert [key.reveal() for key in mixed.api_keys] == [key.reveal() for key in flat.api_keys]
    assert replace(mixed, api_keys=()) == replace(flat, api_keys=())


def _dotted(data: dict[str, Any]) -> set[str]:
    inner = {
        f"{group}.{name}" for group in data if isinstance(data[group], dict) for name in data[group]
    }
    return {name for name in data if not isinstance(data[name], dict)} | inner


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"openai": {"api_key": "a", "api_keys": ["b"]}}, "openai.api_key and openai.api_keys"),
        ({"model": "a", "openai": {"model": "a"}}, "model and openai.model"),
        ({"openai": {"timeout": 1}, "timeout": 1}, "openai.timeout and timeout"),
        ({"parallel": {"batch_size": 1, "max_workers": 1}}, "parallel.batch_size and parallel.max"),
        ({"threads": 1, "parallel": {"batch_size": 1}}, "threads and parallel.batch_size"),
        ({"cache": {"directory": "a"}, "cache_directory": "a"}, "cache.directory and cache_direct"),
        (
            {"openai": {"temperature": 1}, "params": {"temperature": 1}},
            "params.temperature and openai.temperature",
        ),
    ],
)
def test_one_thing_under_two_names(tmp_path: Path, data: dict[str, Any], names: str) -> None:
    """Which of them was meant is not guessed: both are named."""
    says = refused(write(tmp_path / "c.json", data))
    assert says.startswith(names)
    assert says.endswith("are two names of one thing: give one")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"openai": {"modell": "m"}}, "'openai.modell'; did you mean 'openai.model'?"),
        ({"openai": {"batch_size": 1}}, "'openai.batch_size'; did you mean 'parallel.batch_size'?"),
        ({"openai": {"proxy": "x"}}, "'openai.proxy'; write proxy outside the group"),
        ({"parallel": {"retry": 1}}, "'parallel.retry'; did you mean 'parallel.retry_delay'?"),
        ({"cache": {"expiry": 1}}, "'cache.expiry'; did you mean 'cache.expiry_days'?"),
        ({"cache": {"zzz": 1}}, "'cache.zzz'; known: enabled, directory, expiry_days, max_size_mb"),
        ({"openai": {"zzz": 1}}, "model, timeout, and request parameters"),
        ({"opnai": {"model": "m"}}, "'opnai'; did you mean 'openai'?"),
    ],
)
def test_an_unknown_name_in_a_group(tmp_path: Path, data: dict[str, Any], says: str) -> None:
    """It brings the nearest one, or where it belongs."""
    assert refused(write(tmp_path / "c.json", data)).endswith(says)


@pytest.mark.parametrize("value", [KEYS[0], [KEYS[0]], 5, True])
def test_a_group_that_is_none(tmp_path: Path, value: object) -> None:
    """It is told what belongs there, without what stood there."""
    says = refused(write(tmp_path / "c.json", {"openai": value}))
    assert says.startswith("openai must be a group of settings (api_keys, api_key, api_base, ")
    assert KEYS[0] not in says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: a\nthreads: 1\nmodel: b\n", "c.yaml:3: model stands there twice"),
        ("openai:\n  model: a\nopenai:\n  timeout: 1\n", "c.yaml:3: openai stands there twice"),
        ("cache:\n  enabled: true\n  enabled: false\n", "c.yaml:3: enabled stands there twice"),
        ('{"model": "a", "model": "b"}', "c.json: 'model' stands there twice"),
        ('{"openai": {"model": "a", "model": "b"}}', "c.json: 'model' stands there twice"),
    ],
)
def test_one_name_twice(tmp_path: Path, text: str, says: str) -> None:
    """Parsers take the last one in silence; here nothing counts for nothing."""
    path = write(tmp_path / says.partition(":")[0], text)
    with pytest.raises(ConfigError) as caught:
        load(path, None, {})
    assert str(caught.value) == str(tmp_path / says)


def test_an_anchor_is_no_repetition(tmp_path: Path) -> None:
    """What YAML itself has for taking over a group."""
    text = "openai: &o {model: a}\nparams: {metadata: {x: *o, y: *o}}\n"
    config = load(write(tmp_path / "c.yaml", text), None, {})
    assert config.params["metadata"] == {"x": {"model": "a"}, "y": {"model": "a"}}


def test_empty_groups_say_nothing(tmp_path: Path) -> None:
    """A group, or a list of keys, whose every line is a comment."""
    text = "openai:\n  api_keys:\n    #- a\nparallel:\ncache:\napi_keys:\n"
    assert load(write(tmp_path / "c.yaml", text), None, {}) == Config()


def test_a_wrong_value_in_a_group_is_named_as_it_was_written(tmp_path: Path) -> None:
    """And not by the flat name, which the reader may not know."""
    says = refused(write(tmp_path / "c.json", {"parallel": {"batch_size": 0}}))
    assert says == "parallel.batch_size must be a whole number of at least 1 or null, got 0"
    says = refused(write(tmp_path / "c.json", {"openai": {"n": 2}}))
    assert says.startswith("params cannot hold n above 1")
    says = refused(write(tmp_path / "c.json", {"openai": {"seed": 2}, "params": 5}))
    assert says.startswith("params must be an object")


def test_the_switch_and_the_group_of_one_name(tmp_path: Path) -> None:
    """`cache` is a switch, or null, or a group."""
    for value, wanted in ((True, True), (None, None), ({}, None), ({"enabled": False}, False)):
        assert load(write(tmp_path / "c.json", {"cache": value}), None, {}).cache is wanted
    assert refused(write(tmp_path / "c.json", {"cache": "on"})).startswith("cache must be true, ")


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in the cache's folder is one's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load(None, {"cache_directory": "~/a"}, {}).cache_directory == tmp_path / "a"


ENVIRON = {"KEY_ONE": KEYS[0], "KEYS": ",".join(KEYS), "COUNT": "8", "WARM": "0.5", "EMPTY": " "}


def test_values_from_the_environment(tmp_path: Path) -> None:
    """`${NAME}` as a whole value, wherever it stands; the rest is read as JSON."""
    openai = {"api_key": "${KEY_ONE}", "model": "${COUNT}", "temperature": " ${WARM} "}
    data: dict[str, Any] = {
        "openai": {**openai, "stop": "a ${NAME} within a parameter stays"},
        "parallel": {"batch_size": "${COUNT}"},
        "params": {"names": ["${KEYS}", "${COUNT}"], "user": "so does ${THIS} one"},
    }
    config = load(write(tmp_path / "c.json", data), None, ENVIRON)
    assert [key.reveal() for key in config.api_keys] == [KEYS[0]]
    assert (config.model, config.threads) == ("8", 8)
    assert config.params == {
        "names": [",".join(KEYS), 8],
        "user": "so does ${THIS} one",
        "temperature": 0.5,
        "stop": "a ${NAME} within a parameter stays",
    }


@pytest.mark.parametrize("value", ["${KEYS}", ["${KEY_ONE}", KEYS[1]]])
def test_lists_of_keys_from_the_environment(tmp_path: Path, value: object) -> None:
    """One variable with a comma list, or one for each key."""
    config = load(write(tmp_path / "c.json", {"api_keys": value}), None, ENVIRON)
    assert tuple(key.reveal() for key in config.api_keys) == KEYS


def test_a_key_of_digits_is_a_text(tmp_path: Path) -> None:
    """Gateways have such keys."""
    path = write(tmp_path / "c.json", {"api_keys": ["${DIGITS}"]})
    assert load(path, None, {"DIGITS": "1234567890"}).api_keys[0].reveal() == "1234567890"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"openai": {"api_key": "${NONE}"}}, "openai.api_key"),
        ({"api_keys": [KEYS[0], "${NONE}"]}, "api_keys entry 2"),
        ({"openai": {"top_p": "${NONE}"}}, "openai.top_p"),
        ({"params": {"stop": ["a", "${NONE}"]}}, "params.stop entry 2"),
        ({"model": "${NONE}"}, "model"),
    ],
)
def test_a_variable_that_is_not_set(tmp_path: Path, data: dict[str, Any], field: str) -> None:
    """File, field and variable are named; an empty one is not set."""
    path = write(tmp_path / "c.json", data)
    wanted = f"{field} is ${{NONE}}, and no such variable is set: export NONE=…"
    assert refused(path) == wanted
    assert refused(path, {"NONE": " "}) == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_base", "https://${HOST}/v1"),
        ("model", "${MODEL:-gpt-4.1}"),
        ("api_keys", ["${A}${B}"]),
        ("threads", "${not a name}"),
    ],
)
def test_half_a_reference(tmp_path: Path, name: str, value: object) -> None:
    """What looks like a reference and is none is never sent as it stands."""
    says = refused(write(tmp_path / "c.json", {name: value}))
    assert says == f"{name} has ${{…}} inside; only a whole value can be ${{NAME}}"


def test_a_key_where_it_does_not_belong(tmp_path: Path) -> None:
    """A value from the environment is not quoted in an error."""
    says = refused(write(tmp_path / "c.json", {"threads": "${KEY_ONE}"}), ENVIRON)
    assert says.startswith("threads must be a whole number of at least 1 or null")
    assert KEYS[0] not in says


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_readable_file_without_keys_in_it(tmp_path: Path) -> None:
    """It names variables only, so everybody may read it; one key in it, and the note is there."""
    path = write(tmp_path / "c.json", {"api_keys": ["${KEY_ONE}"]})
    path.chmod(0o644)
    assert load(path, None, ENVIRON).notes == ()
    path.write_text(json.dumps({"api_keys": ["${KEY_ONE}", KEYS[1]]}), encoding="utf-8")
    assert len(load(path, None, ENVIRON).notes) == 1


def test_the_same_key_in_file_and_environment_is_no_news(tmp_path: Path) -> None:
    """`${OPENAI_API_KEY}` in the file, where the variable goes before the file anyway."""
    path = write(tmp_path / "c.json", {"api_keys": "${OPENAI_API_KEY}"})
    config = load(path, None, {"OPENAI_API_KEY": KEYS[0]})
    assert config.notes == ()
    assert config.origins == {"api_keys": "environment OPENAI_API_KEY"}


@pytest.mark.parametrize("name", ["config.yaml", "config.yml"])
def test_yaml_in_the_current_folder_is_taken(name: str) -> None:
    """As config.json is; beside it neither goes first in silence, and a named one decides."""
    write(Path(name), COMMON)
    assert load(None, None, {}).model == "gpt-4.1"
    write(Path("config.json"), {"model": "other"})
    with pytest.raises(ConfigError, match=f"^config.json and {name} are both here: name one with"):
        load(None, None, {})
    assert load(name, None, {}).model == "gpt-4.1"


def test_the_readmes_table_is_the_code() -> None:
    """Names, names in groups, defaults and words are the same, in the same order."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*) \| (.*) \|$", GUIDE, re.MULTILINE)
    rows = [row for row in rows if row[0] in SETTINGS]
    assert [row[0] for row in rows] == list(SETTINGS)
    for setting, (name, grouped, default, words) in zip(TABLE, rows, strict=True):
        many = len(setting.grouped) > 3
        names = [f"`{dotted}`" for dotted in setting.grouped[: 2 if many else 3]]
        assert grouped == ", ".join(names + ["…"] * many), name
        value = getattr(Config(), name)
        if value is None or name == "api_keys":
            assert default == setting.unset, name
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            assert default == f"{value:g}", name
        else:
            assert default == f"`{value if isinstance(value, str) else json.dumps(value)}`", name
        assert words == setting.words


def test_the_readmes_example_loads(tmp_path: Path) -> None:
    """The YAML that the guide shows is right."""
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    config = load(write(tmp_path / "c.yaml", text), None, {"OPENAI_API_KEY": KEYS[0]})
    assert (config.threads, config.cache, config.stall_timeout) == (32, True, 600)


def waits(stage: Stage, clock: FakeClock, **settings: Any) -> list[float]:
    """Return how long one row with a fault that stays waits before each of its retries."""
    config = stage.config(max_retries=3, **settings)
    crew = assemble(config, clock=clock, stop=Stop(), note=lambda _: None)
    try:
        outcome = crew.work(Record("1", "Repeat.", "[[fault:malformed]] please"))
    finally:
        crew.close()
    assert outcome is not None
    assert outcome.attempts == 4
    return clock.waits


def test_a_retry_waits_as_long_as_is_set(stage: Stage, clock: FakeClock) -> None:
    """`retry_delay` reaches the worker: at once, or beyond the longest wait that else is."""
    assert max(waits(stage, clock, retry_delay=0)) == 0
    assert max(waits(stage, clock, retry_delay=1e7)) > 1000  # missed once in 1e12 times


def test_retry_delay_is_where_the_waits_begin() -> None:
    """It doubles up to 30 seconds, or stays where it is beyond them."""
    assert Config().retry_delay == ROW.base_s
    assert ROW.starting_at(2) == (2, 30)
    assert ROW.starting_at(90) == (90, 90)
