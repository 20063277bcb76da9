"""Which chat models a provider offers, by genai-prices: for a look at cheaper ones."""

from __future__ import annotations

import re
from typing import Any

#: Parts of the names of models that do not chat, or that nobody would begin with today: previews,
#: dated or otherwise particular versions of others.
_OTHERS = re.compile(
    r"audio|realtime|image|embed|tts|transcri|whisper|moderation|search|instruct|vision|research"
    r"|computer|codex|live|davinci|curie|babbage|\bada\b|ft:|ft-|cyber|rosalind|safeguard|preview"
    r"|latest|:|-\d{4}|-\d{3}$|gpt-3\.5|gpt-oss|rerank|guard|ocr|speech|veo|imagen|free",
    re.IGNORECASE,
)


def cheaper_models(model: str, provider: str, longest: int) -> list[str]:
    """Return the names of a provider's other chat models, cheaper or not.

    Args:
        model: the one to leave out.
        provider: the address of its API.
        longest: tokens that its prompts must have room for.
    """
    from genai_prices import data_snapshot  # noqa: PLC0415  # a third of a second

    try:
        found: Any = data_snapshot.get_snapshot().find_provider(model, None, provider)
    except LookupError:
        return []
    return [
        offer.id
        for offer in found.models
        if offer.id != model
        and not offer.deprecated
        and not _OTHERS.search(offer.id)
        and (offer.context_window is None or offer.context_window > longest)
    ]
