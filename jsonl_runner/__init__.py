"""Push a JSONL dataset through an LLM API: resumable, many keys, never loses or repays an answer.

Names are loaded when they are first used: `jsonl-runner --help` must not wait for what it does not
need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compat import (
        APIKeyManager,
        get_completion_list,
        multi_process_one,
        multi_thread_run,
        request_openai_api,
    )
    from .config import Config
    from .dataset import Dataset
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
    from .judging import Judge
    from .merge import MergeSummary
    from .models import (
        CallFailedError,
        Gpt4,
        Gpt35Turbo,
        Gpt35Turbo0613,
        Gpt35Turbo16K,
        OpenAIModel,
        Prompt,
    )
    from .summary import RunSummary
    from .tokens import num_tokens_from_string, split_string_by_tokens
    from .toolkit import ParallelToolkit

__version__ = "0.1.0"

__all__ = [
    "APIKeyManager",
    "BadRowsError",
    "CallFailedError",
    "Config",
    "ConfigError",
    "Dataset",
    "Gpt4",
    "Gpt35Turbo",
    "Gpt35Turbo0613",
    "Gpt35Turbo16K",
    "InputError",
    "JsonlRunnerError",
    "Judge",
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
    "get_completion_list",
    "multi_process_one",
    "multi_thread_run",
    "num_tokens_from_string",
    "request_openai_api",
    "split_string_by_tokens",
]

_HOMES = {
    "Config": "config",
    "Dataset": "dataset",
    "Judge": "judging",
    "MergeSummary": "merge",
    "RunSummary": "summary",
    "ParallelToolkit": "toolkit",
    "num_tokens_from_string": "tokens",
    "split_string_by_tokens": "tokens",
    "CallFailedError": "models",
    "Gpt35Turbo": "models",
    "Gpt35Turbo0613": "models",
    "Gpt35Turbo16K": "models",
    "Gpt4": "models",
    "OpenAIModel": "models",
    "Prompt": "models",
    "APIKeyManager": "compat",
    "get_completion_list": "compat",
    "multi_process_one": "compat",
    "multi_thread_run": "compat",
    "request_openai_api": "compat",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    return getattr(home, name)


def __dir__() -> list[str]:
    return __all__
