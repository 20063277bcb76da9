"""`render`: what would be sent, as text or as the requests; nothing is sent."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from support import KEYS, row, write_rows
from test_images import PNG, SENT

if TYPE_CHECKING:
    from support import Stage

GSM = {"question": "1+1?", "answer": "2", "id": 5}
TEMPLATE = """\
{% message role="system" %}
Think, {{ name }}.
{% endmessage %}
{% message role="user" %}
{{ question }}
{% endmessage %}
"""


def test_it_shows_every_message(stage: Stage) -> None:
    """By role, with where the row stands and what it weighs; no key, no call, no file."""
    write_rows(stage.data, [{**GSM, "id": k, "name": "小李\u001b[31m"} for k in range(9)])
    (stage.folder / "prompt.j2").write_text(TEMPLATE, encoding="utf-8")
    before = sorted(stage.folder.iterdir())
    words = ("--map", "index=id", "--template", "prompt.j2", "--system", "Be brief.")
    result = stage.cli("render", "data.jsonl", *words, "--limit", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "=== row 0 (data.jsonl:1): gpt-4.1-mini, 27 tokens\n"
        "--- system\nBe brief.\n\nThink, 小李\ufffd[31m.\n--- user\n1+1?\n\n"
        "=== row 1 (data.jsonl:2): gpt-4.1-mini, 27 tokens\n"
        "--- system\nBe brief.\n\nThink, 小李\ufffd[31m.\n--- user\n1+1?\n\n"
    )
    assert result.stderr == "data.jsonl: 2 rows as they would be asked; nothing was sent\n"
    assert sorted(stage.folder.iterdir()) == before
    assert not stage.simulator.journal.calls


def test_calls_of_tools_are_shown(stage: Stage) -> None:
    """A message may hold nothing else, and would look empty."""
    called = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": called},
        {"role": "tool", "tool_call_id": "c", "content": "b"},
    ]
    write_rows(stage.data, [{"index": 1, "messages": messages}])
    result = stage.cli("render", "data.jsonl")
    assert result.stdout.partition("tokens\n")[2] == (
        "--- user\na\n--- assistant\n"
        '[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]\n'
        "--- tool\nb\n\n"
    )


def test_json_is_what_would_be_sent(stage: Stage) -> None:
    """The requests with the settings of a run; the image is in it whole, but not in the text."""
    write_rows(stage.data, [{**row(0, "Hi"), "image": "cat.png", "params": {"seed": 7}}])
    (stage.folder / "cat.png").write_bytes(PNG)
    config = stage.config_file()
    given = ("--config", config, "--model", "m", "--max-tokens", "9", "--temperature", "0.5")
    words = ("render", stage.data, *given)
    result = stage.cli(*words, "--json")
    (shown,) = json.loads(result.stdout)
    image = {"type": "image_url", "image_url": {"url": SENT}}
    assert shown["body"] == {
        "model": "m",
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 7,
        "messages": [
            {"role": "system", "content": "Repeat."},
            {"role": "user", "content": [image, {"type": "text", "text": "Hi"}]},
        ],
    }
    assert shown["url"] == f"{stage.simulator.base_url}/chat/completions"
    assert not any(key in result.stdout + result.stderr for key in KEYS)
    text = stage.cli(*words).stdout
    assert f"[image: {(stage.folder / 'cat.png').as_uri()}]" in text
    dry = stage.cli("run", stage.data, stage.output, "--config", config, "--dry-run").stdout
    assert base64.b64encode(PNG).decode() not in dry
    assert "data:image/png;base64,iVBORw0KGgoAAAANSU… (" in dry


def test_rows_that_cannot_be_used(stage: Stage) -> None:
    """The first ends it, or is left out and said."""
    write_rows(stage.data, [{"index": 0}, row(1), {"index": 2}, row(3)])
    result = stage.cli("render", "data.jsonl")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith('data.jsonl:1: it has no "instruction"')
    result = stage.cli("render", "data.jsonl", "--bad-rows", "skip", "--limit", "1")
    assert result.returncode == 0
    assert result.stderr.startswith('left out data.jsonl:1: it has no "instruction"')
    assert "=== row 1 (data.jsonl:2)" in result.stdout
