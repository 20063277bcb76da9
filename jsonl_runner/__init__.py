"""Push a JSONL dataset through an LLM API: resumable, many keys, never loses or repays an answer.

Names are loaded when they are first used: `jsonl-runner --help` must not wait for what it does not
need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config
    from .errors import (
        BadRowsError,
        ConfigError,
        InputError,
        JsonlRunnerError,
        LedgerError,
        LedgerLockedError,
        NoUsableKeyError,
        RunInterruptedError,
        RunStoppedError,
        WrongEndpointError,
    )
    from .merge import MergeSummary
    from .summary import RunSummary
    from .toolkit import CallFailedError, OpenAIModel, ParallelToolkit, Prompt

__version__ = "0.1.0"

__all__ = [
    "BadRowsError",
    "CallFailedError",
    "Config",
    "ConfigError",
    "InputError",
    "JsonlRunnerError",
    "LedgerError",
    "LedgerLockedError",
    "MergeSummary",
    "NoUsableKeyError",
    "OpenAIModel",
    "ParallelToolkit",
    "Prompt",
    "RunInterruptedError",
    "RunStoppedError",
    "RunSummary",
    "WrongEndpointError",
    "__version__",
]

_HOMES = {
    "Config": "config",
    "MergeSummary": "merge",
    "RunSummary": "summary",
    "CallFailedError": "toolkit",
    "OpenAIModel": "toolkit",
    "ParallelToolkit": "toolkit",
    "Prompt": "toolkit",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    return getattr(home, name)


def __dir__() -> list[str]:
    return __all__
