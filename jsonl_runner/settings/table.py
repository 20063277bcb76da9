"""Every setting in one table: its names, its words, and what its value must be.

`config` takes names and checks from here, `jsonl-runner config init` and `config show` their words,
and a test holds the guide's table to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .checks import (
    address,
    engine,
    folder,
    key_groups,
    keys,
    number,
    params,
    post,
    proxy,
    ray_address,
    switch,
    text,
    transport,
)
from .price import prices

if TYPE_CHECKING:
    from collections.abc import Callable

#: Request parameters that are known by name: they may stand in the group `openai`, and beside the
#: settings, where they would be unknown, they bring a hint.
REQUEST_PARAMETERS = (
    *("temperature", "max_tokens", "max_completion_tokens", "top_p", "stop", "seed", "n", "user"),
    *("presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "verbosity"),
    *("tools", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs", "logit_bias"),
    *("service_tier", "metadata", "store", "stream", "top_k", "repetition_penalty"),
)
#: Seconds from which a time may be configured: anything less is a mistake.
_LEAST_S = 0.001


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its default, which stands in `Config`.

    Attributes:
        name: its flat name.
        words: what it is for, in a line.
        check: returns its value as it is kept; a ValueError's text goes behind its name.
        grouped: its names within groups, the usual one first.
        unset: what its default means, where that is null (or no key).
        is_text: whether a text for it is taken as it stands, and not as JSON.
    """

    name: str
    words: str
    check: Callable[[Any], Any]
    grouped: tuple[str, ...] = ()
    unset: str = ""
    is_text: bool = False

    def parse(self, text: str) -> Any:
        """Return a text from the environment as a file would hold it."""
        if self.name == "api_keys":
            return [key.strip() for key in text.strip(" ,").split(",")]
        return text if self.is_text else parse_value(text)


def parse_value(text: str) -> Any:
    """Return a text from the command line as JSON if it is JSON, else as it stands."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


_seconds = number(_LEAST_S)

#: The settings in the order in which they are shown.
TABLE = (
    Setting(
        "api_keys",
        "the keys that share the work; one may be `${NAME}`, taken from the environment",
        keys,
        ("openai.api_keys", "openai.api_key"),
        unset="–",
    ),
    Setting(
        "api_base",
        "address of the API, up to `/v1`",
        address,
        ("openai.api_base", "openai.base_url"),
        is_text=True,
    ),
    Setting("model", "the model where a row names none", text, ("openai.model",), is_text=True),
    Setting(
        "params",
        "request parameters for every row",
        params,
        tuple(f"openai.{name}" for name in REQUEST_PARAMETERS),
    ),
    Setting(
        "max_retries",
        "tries after the first for errors that may pass; rate limits cost none",
        number(0, whole=True),
        ("parallel.max_retries",),
    ),
    Setting(
        "schema_retries",
        "times a row is asked again whose answer is not the JSON that its `response_format` asks "
        "for, each time told what was wrong; every answer is paid for",
        number(0, whole=True),
        ("parallel.schema_retries",),
    ),
    Setting(
        "retry_delay",
        "seconds that the first of these tries waits at the most; doubles with each up to 30 s, "
        "and each wait is drawn from 0 up to that (full jitter)",
        number(0),
        ("parallel.retry_delay",),
    ),
    Setting(
        "timeout",
        "seconds for one call; a call given up may still be billed",
        _seconds,
        ("openai.timeout",),
    ),
    Setting("connect_timeout", "seconds until a connection stands", _seconds),
    Setting("body_timeout", "seconds in which an answer that has begun must go on", _seconds),
    Setting(
        "stall_timeout",
        "seconds without any output after which the run stops; never less than `timeout` + 60",
        _seconds,
    ),
    Setting(
        "threads",
        "calls at the same time (no batch is waited for: the next row begins when one ends); lifts "
        "`per_key_concurrency` to threads / keys",
        number(1, whole=True, optional=True),
        ("parallel.batch_size", "parallel.max_workers", "parallel.threads"),
        unset="keys x 16",
    ),
    Setting(
        "per_key_concurrency",
        "calls at the same time on one key, at the most",
        number(1, whole=True),
    ),
    Setting(
        "requests_per_minute",
        "limit of one key",
        number(_LEAST_S, optional=True),
        unset="learnt",
    ),
    Setting("tokens_per_minute", "limit of one key", number(1, optional=True), unset="learnt"),
    Setting(
        "proxy",
        "way to the API: an `http://`, `https://`, `socks5://` or `socks5h://` address",
        proxy,
        unset="environment",
        is_text=True,
    ),
    Setting(
        "transport",
        "what makes the calls: `curl` (libcurl), or `openai` (the SDK; costs more CPU)",
        transport,
        is_text=True,
    ),
    Setting(
        "http2",
        "ask for HTTP/2 over TLS (`curl` only); it gains nothing, but some gateways want it",
        switch(optional=False),
    ),
    Setting(
        "engine",
        "what spreads a run's rows over workers: `local` (threads of this process), or `ray` "
        "(processes on a Ray cluster)",
        engine,
        is_text=True,
    ),
    Setting(
        "ray_address",
        "that cluster: `local` (one of its own on this machine), `auto`, `host:port`, "
        "`ray://host:port`",
        ray_address,
        is_text=True,
    ),
    Setting(
        "workers",
        "processes on the cluster",
        number(1, whole=True, optional=True),
        unset="one a node",
    ),
    Setting(
        "key_groups",
        "keys that share their limits (one organisation's), by position: `[[1, 2], [3]]`; a group "
        "is with one worker as long as there are no more workers than groups",
        key_groups,
    ),
    Setting(
        "max_cost",
        "US dollars that the runs on one output may spend together, by its call log; reserved "
        "before a call, settled after it",
        number(0, optional=True),
        unset="no limit",
    ),
    Setting(
        "max_tokens_total",
        "the same in tokens, prompts and answers together",
        number(1, whole=True, optional=True),
        unset="no limit",
    ),
    Setting(
        "prices",
        "your own prices by model, dollars a million tokens: `{model: {input: 0.4, output: 1.6}}`; "
        "`cached`, `batch_input`, `batch_output` where you know them, `*` for every model",
        prices,
    ),
    Setting(
        "post",
        "function that every answer goes through, `module:function`, the module beside you or "
        "installed; what it returns goes into the output",
        post,
        unset="none",
        is_text=True,
    ),
    Setting(
        "cache",
        "whether answers are kept and taken again for equal requests",
        switch(optional=True),
        ("cache.enabled",),
        unset="the command's own",
    ),
    Setting(
        "cache_directory",
        "folder in which they are kept",
        folder,
        ("cache.directory",),
        unset="your cache folder",
        is_text=True,
    ),
    Setting(
        "cache_expiry_days",
        "days after which a kept answer is asked for anew",
        number(_LEAST_S),
        ("cache.expiry_days",),
    ),
    Setting(
        "cache_max_size_mb",
        "megabytes that they may take",
        number(_LEAST_S),
        ("cache.max_size_mb",),
    ),
)
BY_NAME = {setting.name: setting for setting in TABLE}

#: The names within each group, with what they are outside of it.
GROUPS: dict[str, dict[str, str]] = {}
for _setting in TABLE:
    for _dotted in _setting.grouped:
        _group, _, _name = _dotted.partition(".")
        GROUPS.setdefault(_group, {})[_name] = _setting.name
