"""The front door: what `from jsonl_runner import …` gives."""

from __future__ import annotations

import subprocess
import sys

import jsonl_runner

PUBLIC = [
    "APIKeyManager",
    "BadRowsError",
    "CallFailedError",
    "Config",
    "ConfigError",
    "Dataset",
    "Gpt35Turbo",
    "Gpt35Turbo0613",
    "Gpt35Turbo16K",
    "Gpt4",
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


def test_the_public_names_are_these() -> None:
    """A name comes or goes only on purpose, and each one can be imported."""
    assert sorted(jsonl_runner.__all__) == dir(jsonl_runner) == PUBLIC
    for name in PUBLIC:
        assert getattr(jsonl_runner, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typo fails as it does with any module."""
    assert not hasattr(jsonl_runner, "ParalelToolkit")


def test_the_front_door_loads_nothing_that_is_not_used() -> None:
    """Importing the package, or asking for help, loads no HTTP library."""
    code = (
        "import sys, jsonl_runner.cli.main\n"
        "heavy = {'openai', 'pycurl', 'orjson', 'yaml', 'tqdm', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
