"""Settings: defaults < config file < environment < arguments, decided in one place."""

from __future__ import annotations

import difflib
import json
import math
import os
import stat
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from . import jsontext
from .errors import ConfigError
from .records import check_params
from .secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Taken when no other is named and it lies in the current folder.
DEFAULT_CONFIG_FILE = "config.json"
DEFAULT_API_BASE = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4.1-mini"
#: Calls at once on one key where nothing is set: enough to fill a paid key's limits at a second a
#: call, little enough not to trip a small key's.
DEFAULT_PER_KEY_CONCURRENCY = 16
#: Before the name of a setting in capitals: `JSONL_RUNNER_MODEL`.
ENV_PREFIX = "JSONL_RUNNER_"
#: Often written beside the settings, where they would be unknown.
_REQUEST_PARAMETERS = frozenset(
    {
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
        *("presence_penalty", "frequency_penalty", "response_format", "tools", "reasoning_effort"),
    }
)
#: What can make the calls: libcurl, or the openai SDK.
TRANSPORTS = ("curl", "openai")
PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")


@dataclass(frozen=True)
class Config:
    """The settings of a run, as `load` has checked them.

    Attributes:
        api_keys: the keys that share the work.
        api_base: address of the API, without `/chat/completions`.
        model: used where a row names none.
        params: request parameters sent with every row (temperature, max_tokens, …).
        max_retries: tries after the first for errors that may pass; rate limits cost none.
        timeout: seconds for one call in all; generous, because a call given up may be billed.
        connect_timeout: seconds for the connection alone.
        body_timeout: seconds in which an answer that has begun must go on.
        stall_timeout: seconds without any success after which the run stops.
        threads: calls at the same time; None: keys x per_key_concurrency.
        per_key_concurrency: calls at the same time on one key, at the most; its default gives way
            to `threads`.
        requests_per_minute, tokens_per_minute: limits of one key; None: learnt from the answers.
        proxy: http, https, socks5 or socks5h address; None: from the environment.
        transport: `curl` or `openai`, what makes the calls.
        http2: whether HTTP/2 is asked for (curl only). Each thread has a connection of its own, so
            it gains nothing; for gateways that speak nothing else.
        notes: what is odd about the settings and was put right; for the user.
    """

    api_keys: tuple[Secret, ...] = ()
    api_base: str = field(default=DEFAULT_API_BASE, repr=False)  # it may hold a login
    model: str = DEFAULT_MODEL
    params: Mapping[str, Any] = field(default_factory=dict)
    max_retries: int = 5
    timeout: float = 300
    connect_timeout: float = 30
    body_timeout: float = 60
    stall_timeout: float = 1800
    threads: int | None = None
    per_key_concurrency: int = DEFAULT_PER_KEY_CONCURRENCY
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    proxy: str | None = field(default=None, repr=False)
    transport: str = "curl"
    http2: bool = False
    notes: tuple[str, ...] = ()


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the settings in force.

    Args:
        path: a JSON or YAML file; None takes `config.json` in the current folder if it is there.
        overrides: settings by name that go before all others; None values say nothing.
        environ: the environment; None: the process's own.

    Raises:
        ConfigError: a file or a setting is wrong; the message names the file and the field.
    """
    environ = os.environ if environ is None else environ
    config = Config()
    if path is None and Path(DEFAULT_CONFIG_FILE).is_file():
        path = DEFAULT_CONFIG_FILE
    if path is not None:
        config = _apply(config, _read_file(Path(path)), str(path))
        config = _warn_if_readable(config, Path(path))
    from_env = _from_environment(environ)
    if config.api_keys and "api_keys" in from_env:
        note = f"keys come from the environment; the {len(config.api_keys)} in {path} are not used"
        config = replace(config, notes=(*config.notes, note))
    config = _apply(config, from_env, "environment")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    merged = _apply(config, given, "arguments")
    return replace(merged, params={**config.params, **merged.params})


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "copy config.json.example to it and put your keys in"
        raise ConfigError(f"{path}: there is no such configuration file; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        if path.suffix.lower() in {".yaml", ".yml"}:
            import yaml  # noqa: PLC0415  # 30 ms that users of JSON need not pay

            try:
                data = yaml.safe_load(text)
            except yaml.YAMLError as error:
                # Never its whole text: that quotes the file, and so the keys in it.
                mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "")
                line = f":{mark.line + 1}" if mark else ""
                raise ConfigError(
                    f"{path}{line}: not valid YAML: {problem or 'odd text'}"
                ) from None
        else:
            data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # nested, or with a number, beyond all reason
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold an object with settings")
    return data


def _warn_if_readable(config: Config, path: Path) -> Config:
    # Windows has no such bits; its st_mode always says "readable by others".
    if os.name == "posix" and config.api_keys and path.stat().st_mode & stat.S_IROTH:
        note = f"{path} holds keys and everybody on this machine can read it: chmod 600 {path}"
        return replace(config, notes=(*config.notes, note))
    return config


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if key := environ.get("OPENAI_API_KEY", "").strip():
        found["api_keys"] = [key]
    if keys := environ.get("OPENAI_API_KEYS", "").strip(" ,"):
        found["api_keys"] = [key.strip() for key in keys.split(",")]
    if base := environ.get("OPENAI_BASE_URL", "").strip():
        found["api_base"] = base
    for name in _CHECKS:
        text = environ.get(ENV_PREFIX + name.upper())
        if not text:
            continue
        if name == "api_keys":
            found[name] = [key.strip() for key in text.split(",")]
        elif name in {"api_base", "model", "proxy", "transport"}:
            found[name] = text
        else:
            found[name] = parse_value(text)
    return found


def parse_value(text: str) -> Any:
    """Return a text from the command line as JSON if it is JSON, else as it stands."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _apply(config: Config, values: Mapping[str, Any], origin: str) -> Config:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key)  # YAML knows keys that are no texts
        check = _CHECKS.get(name)
        if check is None:
            if name in _REQUEST_PARAMETERS:
                hint = "it is a request parameter: put it into params"
                raise ConfigError(f"{origin}: unknown setting {name!r}; {hint}")
            nearest = difflib.get_close_matches(name, _CHECKS, 1, 0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(_CHECKS)}"
            raise ConfigError(f"{origin}: unknown setting {name!r}; {hint}")
        try:
            changes[name] = check(value)
        except ValueError as error:
            raise ConfigError(f"{origin}: {name} {error}") from None
    if "api_keys" in changes:
        secrets, notes = changes["api_keys"]
        changes["api_keys"] = secrets
        changes["notes"] = (*config.notes, *(f"{origin}: {note}" for note in notes))
    return replace(config, **changes)


def _keys(value: object) -> tuple[tuple[Secret, ...], list[str]]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of keys")
    texts: list[str] = []
    notes: list[str] = []
    for position, text in enumerate(value, 1):
        if not isinstance(text, str):
            raise ValueError(f"must be a list of texts; entry {position} is none")
        key = text.strip()
        if key != text:
            notes.append(f"api_keys entry {position} has blanks around it; taken without them")
        if not key:
            notes.append(f"api_keys entry {position} is empty; left out")
        elif key in texts:
            first = texts.index(key) + 1
            notes.append(f"api_keys entry {position} repeats key {first}; used once")
        elif not key.isascii() or not key.isprintable() or " " in key:
            hint = "is no key (is it still the example's placeholder?); put your own there"
            raise ValueError(f"entry {position} {hint}")
        else:
            texts.append(key)
    return tuple(Secret(key, position) for position, key in enumerate(texts, 1)), notes


def _address(value: object) -> str:
    if value is None or value == "":
        return DEFAULT_API_BASE
    if not isinstance(value, str):
        raise ValueError(f"must be an address, not {value!r}")
    base = value.strip().rstrip("/")
    if not base.startswith(("http://", "https://")) or "//" not in base or base.endswith(":/"):
        raise ValueError("must begin with http:// or https://")
    if any(char.isspace() for char in base):
        raise ValueError("must hold no blanks")
    return base.removesuffix("/chat/completions")


def _proxy(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.startswith(PROXY_SCHEMES):
        raise ValueError(f"must begin with one of {', '.join(PROXY_SCHEMES)}")
    return value


def _transport(value: object) -> str:
    if value not in TRANSPORTS:
        raise ValueError(f"must be one of {', '.join(TRANSPORTS)}, got {value!r}")
    return str(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, got {value!r}")
    return value


def _params(value: object) -> dict[str, Any]:
    check_params(value)
    try:
        jsontext.dump(value)
    except TypeError as error:
        raise ValueError(f"cannot be sent as JSON ({error})") from None
    return cast("dict[str, Any]", value)


def _number(minimum: float, *, whole: bool, optional: bool) -> Callable[[object], Any]:
    kind = "whole number" if whole else "number"
    least = f"of at least {minimum:g}" if minimum else "of 0 or more"

    def check(value: object) -> Any:
        if value is None and optional:
            return None
        allowed = (int,) if whole else (int, float)
        if (
            not isinstance(value, allowed)
            or isinstance(value, bool)
            or not minimum <= value < math.inf
        ):
            null = " or null" if optional else ""
            raise ValueError(f"must be a {kind} {least}{null}, got {value!r}")
        return value

    return check


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "api_keys": _keys,
    "api_base": _address,
    "model": _text,
    "params": _params,
    "max_retries": _number(0, whole=True, optional=False),
    "timeout": _number(0.001, whole=False, optional=False),
    "connect_timeout": _number(0.001, whole=False, optional=False),
    "body_timeout": _number(0.001, whole=False, optional=False),
    "stall_timeout": _number(0.001, whole=False, optional=False),
    "threads": _number(1, whole=True, optional=True),
    "per_key_concurrency": _number(1, whole=True, optional=False),
    "requests_per_minute": _number(0.001, whole=False, optional=True),
    "tokens_per_minute": _number(1, whole=False, optional=True),
    "proxy": _proxy,
    "transport": _transport,
    "http2": _switch,
}

#: Names of the settings, in the order in which they are shown.
SETTINGS = tuple(spec.name for spec in fields(Config) if spec.name in _CHECKS)
