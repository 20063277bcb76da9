"""Images: what is taken, what is refused and why, and what a request holds of them."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from support import read_calls, read_ledger, write_rows

from jsonl_runner import images
from jsonl_runner.batch.anthropicform import params_of
from jsonl_runner.images import ImageError
from jsonl_runner.job import Job
from jsonl_runner.prompts import Composer, messages_of, readable, texts_of
from jsonl_runner.records import Record, fingerprint, to_record
from jsonl_runner.runner import run
from jsonl_runner.simulator import answer_text
from jsonl_runner.spread import spread

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage

#: The smallest PNG there is: one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SENT = "data:image/png;base64," + base64.b64encode(PNG).decode()
WEB = "https://example.com/cat.png"


def refused(folder: Path, *sources: str) -> str:
    with pytest.raises(ImageError) as caught:
        images.check(sources, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_content_tells_the_kind(tmp_path: Path) -> None:
    """A provider refuses a JPEG that is called a PNG; so the name does not count."""
    heads = {
        "image/png": PNG,
        "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
        "image/gif": b"GIF89a\1\0\1\0",
        "image/webp": b"RIFF\x1a\0\0\0WEBPVP8 ",
    }
    for kind, content in heads.items():
        (tmp_path / "picture.dat").write_bytes(content)
        images.check(["picture.dat"], tmp_path)
        url = images.data_url(images.located("picture.dat", tmp_path))
        assert url == f"data:{kind};base64,{base64.b64encode(content).decode()}"
    for content in (b"", b"%PDF-1.7", b"BM....", b"<svg></svg>", b"RIFF\0\0\0\0WAVEfmt "):
        (tmp_path / "picture.png").write_bytes(content)
        assert "its content is not png, jpeg, webp or gif" in refused(tmp_path, "picture.png")


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    """Missing, no file, too large, one and all together; the path that was looked for is named."""
    assert f"is not there (looked for {tmp_path / 'no.png'})" in refused(tmp_path, "no.png")
    assert "'.' is no file" in refused(tmp_path, ".")
    with (tmp_path / "large.png").open("wb") as file:
        file.write(PNG)
        file.truncate(images.MAX_IMAGE_BYTES)
    images.check(["large.png"], tmp_path)
    assert "84 MB as base64; a request may have 50 MB" in refused(tmp_path, *["large.png"] * 3)
    os.truncate(tmp_path / "large.png", images.MAX_IMAGE_BYTES + 1)
    assert "has 20.0 MiB; providers take 20 MiB at most" in refused(tmp_path, "large.png")
    assert "no http, https, data or file URL" in refused(tmp_path, "ftp://example.com/cat.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """To read it would be to wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    assert "is no file" in refused(tmp_path, "pipe.png")


def test_data_urls(tmp_path: Path) -> None:
    """They are looked at as files are, and never shown in whole."""
    images.check([SENT, WEB], tmp_path)
    assert "must be data:image/…;base64" in refused(tmp_path, "data:image/png,abc")
    assert "is not base64" in refused(tmp_path, "data:image/png;base64,?" + "a" * 999)
    text = "data:image/png;base64," + "aGFsbG8h" * 9999
    said = refused(tmp_path, text)
    assert "is not png" in said
    assert len(said) < 200
    assert "(80,014 characters)" in images.shortened(text)


def test_fields() -> None:
    """One, several, both, none; anything else is no image."""
    assert images.of_row({"image": "a", "images": ["b", "c"]}) == ["a", "b", "c"]
    assert images.of_row({"image": None, "images": []}) == images.of_row({"image": ""}) == []
    bad: list[dict[str, Any]] = [{"image": 5}, {"images": "a"}, {"images": [""]}, {"image": {}}]
    for row in bad:
        with pytest.raises(ImageError, match='"image'):
            images.of_row(row)


def test_a_rows_images_go_with_the_last_user_message(tmp_path: Path) -> None:
    """Ahead of its text; a file as its content, and only in the request."""
    (tmp_path / "Ä cat.png").write_bytes(PNG)
    row = {"index": 1, "instruction": "Be brief.", "input": "What?", "images": ["Ä cat.png", WEB]}
    record = to_record(row, 1, tmp_path)
    system, user = json.loads(Composer("m", {}).compose(record).body)["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user == {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": SENT}},
            {"type": "image_url", "image_url": {"url": WEB}},
            {"type": "text", "text": "What?"},
        ],
    }
    assert "base64" not in str(messages_of(record))
    assert texts_of(record) == ("Be brief.", "What?")


def test_images_in_messages(tmp_path: Path) -> None:
    """Paths in a row's own messages are files too; then its fields add none."""
    (tmp_path / "cat.png").write_bytes(PNG)
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": "cat.png", "detail": "low"}}
    odd = [{"type": "image_url"}, {"type": "text", "text": "What?"}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [image, *odd]},
        {"role": "assistant", "content": "A"},
    ]
    row = {"index": 1, "messages": messages, "image": "cat.png"}
    sent = json.loads(Composer("m", {}).compose(to_record(row, 1, tmp_path)).body)["messages"]
    sent_image = {"type": "image_url", "image_url": {"url": SENT, "detail": "low"}}
    assert sent == [{"role": "user", "content": [sent_image, *odd]}, messages[1]]
    assert row["messages"] == messages
    assert image["image_url"] == {"url": "cat.png", "detail": "low"}, "the row stays as it is"
    assert texts_of(Record("1", "", "", messages)) == ("", "What?")
    assert readable(messages[0]).startswith('[image: cat.png]\n{"type":"image_url"}\n')


def test_an_image_without_a_user_message(tmp_path: Path) -> None:
    """It gets one."""
    record = Record("1", messages=[{"role": "system", "content": "Look."}], images=[WEB])
    assert messages_of(record)[1]["role"] == "user"


def test_the_content_is_what_counts_as_changed(tmp_path: Path) -> None:
    """Another picture is another row; the same one elsewhere is not."""
    row = {"index": 1, "instruction": "What?", "image": "cat.png"}
    prints = []
    for name, content in (("a", PNG), ("b", PNG), ("c", PNG + b"\0")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cat.png").write_bytes(content)
        prints.append(fingerprint(to_record(row, 1, folder)))
        messages = messages_of(to_record(row, 1, folder))
        prints.append(fingerprint(Record("1", messages=messages)))
    assert prints[:2] == prints[2:4]
    assert len(set(prints)) == 4
    assert fingerprint(to_record({"index": 1, "instruction": "What?"})) not in prints


def test_an_image_weighs_as_its_tokens(tmp_path: Path) -> None:
    """Its megabytes are no tokens: one picture must not fill a minute's limit."""
    with (tmp_path / "cat.png").open("wb") as file:
        file.write(PNG)
        file.truncate(1_000_000)
    row = {"index": 1, "instruction": "What?", "image": "cat.png"}
    request = Composer("m", {"max_tokens": 50}).compose(to_record(row, 1, tmp_path))
    assert len(request.body) > 1_300_000
    assert 1050 < request.size < 1150
    assert 4000 < request.weight < 4400


def told(*content: dict[str, Any], text: str) -> str:
    """Return what the simulator answers to images with a text: it depends on all that it got."""
    parts = [*content, {"type": "text", "text": text}]
    return answer_text({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": parts}]})


def test_a_run_sends_images(stage: Stage) -> None:
    """The server gets the file's content, ledger and call log do not; later nobody needs it."""
    (stage.folder / "pictures").mkdir()
    (stage.folder / "pictures" / "cat.png").write_bytes(PNG)
    image = {"type": "image_url", "image_url": {"url": SENT}}
    asked = [
        {"index": 0, "instruction": "What?", "image": "pictures/cat.png", "topic": "pets"},
        {
            "index": 1,
            "messages": [{"role": "user", "content": [{**image, "image_url": {"url": SENT}}]}],
        },
    ]
    summary = stage.run(asked)
    assert (summary.done, summary.failed) == (2, 0)
    assert read_ledger(stage.output)["0"] == told(image, text="What?")
    again = stage.run(None)
    assert (again.skipped, len(stage.simulator.journal.calls)) == (2, 2)
    assert not again.changed.count
    log = stage.output.with_name("output.calls.jsonl").read_bytes()
    assert b"base64" not in stage.output.read_bytes() + log
    (stage.folder / "pictures" / "cat.png").unlink()
    merged = stage.folder / "merged.json"
    told_of = stage.cli("status", stage.data, stage.output).stdout
    assert "done 2" in told_of
    assert "changed" not in told_of
    assert stage.cli("compact", stage.output, "--order", stage.data).returncode == 0
    assert stage.cli("merge", stage.data, stage.output, merged).returncode == 0
    assert json.loads(merged.read_text(encoding="utf-8"))[0]["image"] == "pictures/cat.png"


def test_an_image_that_cannot_be_sent_is_a_bad_row(stage: Stage) -> None:
    """Before anything is paid, with file and line; skipped, if so wished."""
    (stage.folder / "text.png").write_bytes(b"no picture")
    part = {"type": "image_url", "image_url": {"url": "gone.png"}}
    rows = [
        {"index": 0, "instruction": "What?"},
        {"index": 1, "instruction": "What?", "image": "text.png"},
        {"index": 2, "messages": [{"role": "user", "content": [part]}]},
        {"index": 3, "instruction": "What?", "images": {"a": 1}},
    ]
    write_rows(stage.data, rows)
    result = stage.run_cli()
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[0].endswith("data.jsonl:2: the image 'text.png' is none: its content is not png, "
                             "jpeg, webp or gif")  # fmt: skip
    assert "data.jsonl:3: the image 'gone.png' is not there (looked for " in lines[1]
    assert 'data.jsonl:4: "images" must be a list of URLs or paths' in lines[2]
    assert "3 rows cannot be used" in lines[3]
    assert not stage.simulator.journal.calls
    summary = stage.run(None, job={"bad_rows": "skip"})
    assert (summary.done, len(summary.bad_rows)) == (1, 3)


def test_an_image_that_goes_while_a_run_is_on(stage: Stage) -> None:
    """Its row is a null with the reason, and costs no call; the others go on."""
    picture = stage.folder / "cat.png"
    picture.write_bytes(PNG)
    rows = [{"index": k, "instruction": "What?", "image": "cat.png"} for k in range(2)]

    def takes_it_away(_outcomes: object) -> None:
        picture.unlink(missing_ok=True)

    job = {"settled": takes_it_away}
    summary = stage.run(rows, job=job, threads=1, per_key_concurrency=1)
    assert (summary.done, summary.failed) == (1, 1)
    call = read_calls(stage.output)["1"]
    assert (call["code"], call["attempts"]) == ("image", 0)
    assert "is not there" in call["message"]


def test_a_report_shows_no_megabytes(stage: Stage) -> None:
    """An image stands in it by its name, a data: URL cut short."""
    (stage.folder / "cat.png").write_bytes(PNG)
    long = "data:image/png;base64," + base64.b64encode(PNG + b"\0" * 9000).decode()
    part = {"type": "image_url", "image_url": {"url": long}}
    stage.run(
        [
            {"index": 0, "instruction": "What?", "image": "cat.png"},
            {"index": 1, "messages": [{"role": "user", "content": [part]}]},
        ]
    )
    page = stage.folder / "report.html"
    words = ("report", stage.output, "--data", stage.data, "-o", page)
    result = stage.cli(*words)
    assert result.returncode == 0, result.stderr
    html = page.read_text(encoding="utf-8")
    assert "cat.png]" in html
    assert f"[image: {long[:40]}… ({len(long):,} characters)]" in html
    assert "A" * 200 not in html


def test_rows_for_several_models_find_their_images(stage: Stage) -> None:
    """Their rows lie beside the output, and paths are still those of the input's folder."""
    (stage.folder / "cat.png").write_bytes(PNG)
    write_rows(stage.data, [{"index": 0, "instruction": "What?", "image": "cat.png"}])
    elsewhere = stage.folder / "elsewhere"
    elsewhere.mkdir()
    spread(stage.data, ["m", "n"], elsewhere / "rows.jsonl", skips_bad_rows=False)
    summary = run(stage.config(), Job(elsewhere / "rows.jsonl", stage.output, quiet=True))
    assert (summary.done, summary.failed) == (2, 0)


def test_anthropics_form() -> None:
    """Its batches take images too, written in its own way."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in (SENT, WEB)]
    body = {"model": "c", "messages": [{"role": "user", "content": parts}]}
    params, _ = params_of(body, sampling=False)
    assert params["messages"][0]["content"] == [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": base64.b64encode(PNG).decode(),
            },
        },
        {"type": "image", "source": {"type": "url", "url": WEB}},
    ]
