"""Which provider's batches the settings lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..secret import without_login
from ..transport.base import TransportSettings
from .profiles import profile_for, profile_named

if TYPE_CHECKING:
    from ..clock import Clock, Stop
    from ..config import Config
    from .base import BatchProvider


def provider_of(config: Config, name: str | None, *, clock: Clock, stop: Stop) -> BatchProvider:
    """Return what makes the calls.

    Args:
        config: the settings.
        name: of a profile; None: by the address.
        clock: tells what a header that names a moment means.
        stop: its abort ends calls.

    Raises:
        ConfigError: there is no such provider, or the proxy or the certificates cannot be used.
    """
    profile = profile_named(name) if name else profile_for(config.api_base)
    settings = TransportSettings(
        config.api_base,
        timeout_s=config.timeout,
        connect_timeout_s=config.connect_timeout,
        body_timeout_s=config.body_timeout,
        proxy=config.proxy,
    )
    if profile.dialect == "anthropic":
        try:
            from .anthropic import AnthropicBatches  # noqa: PLC0415  # takes a second
        except ModuleNotFoundError as error:
            if error.name != "anthropic":
                raise
            raise ConfigError(
                "Anthropic's batches need a package: pip install 'jsonl-runner[anthropic]'"
            ) from None
        if profile_for(config.api_base).name == "openai":
            raise ConfigError(
                f"batches of anthropic, and api_base is {without_login(config.api_base)}: set "
                "--api-base https://api.anthropic.com/v1"
            )
        return AnthropicBatches(settings, profile, clock, stop)
    from .openai import OpenAIBatches  # noqa: PLC0415  # takes a second

    return OpenAIBatches(settings, profile, clock, stop)
