"""What providers of batches take, as data.

A limit is the provider's word where it has given one, else the smaller of what was seen. Megabytes
are taken as 10**6 bytes: where 2**20 were meant, a file is 5 % smaller than it might be, and never
refused. Mistral (`/v1/batch/jobs`), Gemini and OpenRouter (requests within the call) have APIs of
another shape and no profile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

_MB = 10**6
#: Every state of OpenAI's batches (openai 3.52, types/batch.py).
_STATES = (
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Profile:
    """One provider's batches.

    Attributes:
        name: what `--provider` takes.
        base_url: matches the addresses of its API.
        source: where the limits are from, and what is not certain about them.
        dialect: the form of requests and of the API.
        max_requests, max_bytes: of one file.
        max_line_bytes: of one request.
        endpoints: what a request's `url` may be; the first is what ours has.
        windows: what `completion_window` may be; the first is the usual one. Empty: there is none.
        states: the words for a batch's state, in lower case; what is missing here means running.
        has_metadata: whether a batch keeps the metadata it was given.
        times: how moments are written: seconds since 1970, the same as a text, or ISO 8601.
        one_model: whether all requests of a file must be for one model.
        purpose: of the uploaded file.
        id_pattern: what a whole `custom_id` must match.
        discount: price of a batch as a part of the live price; None: not known.
        max_running: batches that may be under way at once, None where there is no such limit.
    """

    name: str
    base_url: str
    source: str
    dialect: Literal["openai", "anthropic", "together"] = "openai"
    max_requests: int = 50_000
    max_bytes: int = 200 * _MB
    max_line_bytes: int = 64 * _MB
    endpoints: tuple[str, ...] = (_CHAT, "/v1/responses", "/v1/completions", "/v1/embeddings")
    windows: tuple[str, ...] = ("24h",)
    states: tuple[str, ...] = _STATES
    has_metadata: bool = True
    times: Literal["seconds", "text", "iso"] = "seconds"
    one_model: bool = True
    purpose: str = "batch"
    id_pattern: str = r"(?s:.{1,512})"
    discount: float | None = 0.5
    max_running: int | None = None


OPENAI = Profile(
    "openai",
    r"https://([a-z]+\.)?api\.openai\.com/",
    "openai 3.52 resources/batches.py; help.openai.com 9197833 (50,000 requests, 200 MB)",
    endpoints=(
        _CHAT,
        "/v1/responses",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/videos",
    ),
)
ANTHROPIC = Profile(
    "anthropic",
    r"https://api\.anthropic\.com/",
    "docs.claude.com batch-processing; anthropic 2.10 messages/batches.py (100,000 or 256 MB)",
    dialect="anthropic",
    max_requests=100_000,
    max_bytes=256 * _MB,
    endpoints=("/v1/messages",),
    windows=(),
    states=("in_progress", "canceling", "ended"),
    has_metadata=False,
    times="iso",
    one_model=False,
    id_pattern=r"[A-Za-z0-9_-]{1,64}",
)

PROFILES = {
    profile.name: profile
    for profile in (
        OPENAI,
        ANTHROPIC,
        Profile(
            "azure",
            r"https://[^/]+\.(openai\.azure\.com|services\.ai\.azure\.com)/",
            "learn.microsoft.com azure how-to/batch (100,000, 200 MB); its 2026 reference has /v1 "
            "in the url, that of 2025 has not",
            max_requests=100_000,
            endpoints=(_CHAT, "/chat/completions", "/v1/responses", "/v1/embeddings"),
        ),
        Profile(
            "groq",
            r"https://api\.groq\.com/",
            "groq 1.7 SDK: 100 MB, only chat, windows of 24h to 7d; today's discount is not "
            "confirmed (a stored page says 25 %)",
            max_bytes=100 * _MB,
            endpoints=(_CHAT,),
            windows=("24h", "48h", "72h", "96h", "120h", "144h", "7d"),
            discount=None,
        ),
        Profile(
            "parasail",
            r"https://api\.parasail\.io/",
            "parasail-ai/openai-batch, its table: 50,000 requests, 500 MB, mixed models",
            max_bytes=500 * _MB,
            endpoints=(_CHAT, "/v1/completions", "/v1/embeddings", "/v1/score"),
            one_model=False,
        ),
        Profile(
            "dashscope",
            r"https://(dashscope(-[a-z]+)?\.aliyuncs\.com|[^/]+\.maas\.aliyuncs\.com)/",
            "alibabacloud.com model-studio, compatible batch; count and size are those of OpenAI, "
            "the page's own larger ones are not confirmed",
            max_line_bytes=6 * _MB,
            endpoints=(_CHAT, "/v1/embeddings", "/v1/chat/ds-test"),
            windows=("24h", *(f"{hours}h" for hours in range(48, 337, 24))),
        ),
        Profile(
            "dashscope-test",
            r"(?!)",
            "alibabacloud.com model-studio: batch-test-model, free, 100 lines, 1 MB, two at once",
            max_requests=100,
            max_bytes=_MB,
            endpoints=("/v1/chat/ds-test",),
            max_running=2,
        ),
        Profile(
            "doubleword",
            r"https://api\.doubleword\.ai/",
            "doublewordai/documentation: 200 MB, 24h (1h earlier); requests as OpenAI's",
            endpoints=(_CHAT, "/v1/responses", "/v1/embeddings"),
            windows=("24h", "1h"),
            discount=None,
            one_model=False,
        ),
        Profile(
            "kluster",
            r"https://api\.kluster\.ai/",
            "kluster-ai/docs of 2025-07-16, the last; the docs are gone since, it may not answer: "
            "100 MB, 1,000 requests on trial and 100,000 beyond, times as texts",
            max_requests=100_000,
            max_bytes=100 * _MB,
            endpoints=(_CHAT,),
            states=(*_STATES, "canceling"),
            times="text",
            one_model=False,
            discount=None,
        ),
        Profile(
            "together",
            r"https://api\.together\.(xyz|ai)/",
            "docs.together.ai inference/batch/overview: 50,000, 100 MB, up to 50 % off by model",
            dialect="together",
            max_bytes=100 * _MB,
            endpoints=(_CHAT,),
            has_metadata=False,
            times="iso",
            purpose="batch-api",
            discount=None,
        ),
        Profile(
            "siliconflow",
            r"https://api\.siliconflow\.(cn|com)/",
            "docs.siliconflow.cn batch: 5,000 lines, 1 GB, one model",
            max_requests=5_000,
            max_bytes=1_000 * _MB,
            endpoints=(_CHAT,),
        ),
        Profile(
            "zhipu",
            r"https://open\.bigmodel\.cn/",
            "docs.bigmodel.cn batch: url /v4/chat/completions; limits are those of OpenAI, halved",
            max_bytes=100 * _MB,
            endpoints=("/v4/chat/completions",),
        ),
        Profile(
            "generic",
            r"(?!)",
            "no provider's: what every OpenAI-shaped one is known to take",
            max_bytes=100 * _MB,
            endpoints=(_CHAT,),
            discount=None,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return a provider's profile.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return PROFILES[name.lower()]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ConfigError(f"there is no provider {name!r} of batches; known are {known}") from None


def profile_for(base_url: str) -> Profile:
    """Return the profile of an address: `generic` for one that is not known."""
    address = base_url.rstrip("/") + "/"
    for profile in PROFILES.values():
        if re.match(profile.base_url, address):
            return profile
    return PROFILES["generic"]
