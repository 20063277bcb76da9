"""Images in prompts: URLs as they are, files as `data:` URLs that are made when a request is.

A file stands in a Record's messages as its `file:` URL, so that a row with ten megabytes of picture
is a few hundred bytes until the moment it is sent.
"""

from __future__ import annotations

import base64
import binascii
import stat
import urllib.parse
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The row's fields that hold one image, and a list of them.
FIELDS = ("image", "images")
#: Bytes of one image: what xAI takes, and Google inline; OpenAI bounds only the whole request
#: (https://docs.x.ai/docs/guides/image-understanding,
#: https://platform.openai.com/docs/guides/images-vision). Others take less, and say so.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
#: Bytes of all images of a row as base64: OpenAI's limit of a request.
MAX_ROW_IMAGES = 50 * 1000 * 1000
#: Bytes at the beginning of a file that tell what it is.
_HEAD = 16
_URLS = ("https://", "http://", "data:", "file:")
_TAKEN = "png, jpeg, webp or gif"
#: Characters of a `data:` URL that are shown.
_SHOWN = 40


class ImageError(ValueError):
    """An image cannot be sent; the message says which and why."""


def of_row(row: dict[str, Any]) -> list[str]:
    """Return what the row's image fields name: URLs and paths.

    Raises:
        ImageError: they hold something else.
    """
    one, many = (row.get(name) for name in FIELDS)
    found: list[str] = []
    if one not in (None, ""):
        found.append(one)
    if many is not None:
        if not isinstance(many, list):
            raise ImageError(
                '"images" must be a list of URLs or paths; --map images= says that it means '
                "something else"
            )
        found += many
    for source in found:
        if not isinstance(source, str) or not source:
            raise ImageError(
                '"image" must be a URL or a path; --map image= says that it means something else'
            )
    return found


def _source(part: object) -> str | None:
    """Return the source of a message's part that is an image, None of any other."""
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return None
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, dict) else None
    return url if isinstance(url, str) else None


def _changed(part: Any, change: Callable[[str], str]) -> Any:
    source = _source(part)
    if source is None:
        return part
    return {**part, "image_url": {**part["image_url"], "url": change(source)}}


def of_messages(messages: Iterable[dict[str, Any]]) -> list[str]:
    """Return the sources of the images in a conversation."""
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [source for source in map(_source, parts) if source is not None]


def replaced(messages: list[dict[str, Any]], change: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return a conversation with each image's source changed; the one given stays as it is."""
    if not of_messages(messages):
        return messages
    copied = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = [_changed(part, change) for part in content]
            message = {**message, "content": content}  # noqa: PLW2901  # a copy of it
        copied.append(message)
    return copied


def with_images(messages: list[dict[str, Any]], sources: list[str]) -> list[dict[str, Any]]:
    """Return a conversation with images ahead of the text of its last user message.

    Images of a message stand before its text, as Anthropic and Google advise and OpenAI takes it.
    """
    parts = [{"type": "image_url", "image_url": {"url": source}} for source in sources]
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.get("role") == "user":
            content = message.get("content") or []
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            asked = {**message, "content": [*parts, *content]}
            return [*messages[:place], asked, *messages[place + 1 :]]
    return [*messages, {"role": "user", "content": parts}]


def is_file(source: str) -> bool:
    """Return whether a source is a file here."""
    return source.startswith("file:")


def located(source: str, folder: Path) -> str:
    """Return a source as it stands in a Record: a URL; of a path, the file's.

    Args:
        source: a URL or a path.
        folder: what a path is relative to.

    Raises:
        ImageError: it is a URL that cannot be sent.
    """
    if source.startswith(_URLS):
        return source
    if "://" in source:
        raise ImageError(f"the image {_shown(source)} is no http, https, data or file URL")
    return (folder / source).absolute().as_uri()


def _path(url: str) -> Path:
    from urllib.request import url2pathname  # noqa: PLC0415  # most runs have no image

    parts = urllib.parse.urlsplit(url)
    host = f"//{parts.netloc}" if parts.netloc else ""  # a share's, on Windows
    return Path(url2pathname(host + parts.path))


def check(sources: Iterable[str], folder: Path) -> None:
    """See whether images can be sent; of files, only their beginnings are read.

    Raises:
        ImageError: one cannot.
    """
    total = 0
    for source in sources:
        url = located(source, folder)
        if url.startswith("http"):
            continue
        if not is_file(url):
            total += _check_data(url)
            continue
        total += 4 * (_check_file(source, _path(url)) + 2) // 3
    if total > MAX_ROW_IMAGES:
        raise ImageError(
            f"its images have {total / 1e6:.0f} MB as base64; a request may have "
            f"{MAX_ROW_IMAGES / 1e6:.0f} MB: shrink them, or give URLs"
        )


def _check_file(source: str, path: Path) -> int:
    """Return an image file's bytes."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            raise ImageError(f"the image {_shown(source)} is no file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else error.strerror
        raise ImageError(f"the image {_shown(source)} {reason} (looked for {path})") from None
    _check_image(source, head, status.st_size)
    return status.st_size


def _check_image(source: str, head: bytes, size: int) -> str:
    """Return an image's media type, by what its bytes begin with."""
    if size > MAX_IMAGE_BYTES:
        raise ImageError(
            f"the image {_shown(source)} has {size / 2**20:.1f} MiB; providers take "
            f"{MAX_IMAGE_BYTES / 2**20:.0f} MiB at most"
        )
    kind = media_type(head)
    if kind is None:
        raise ImageError(f"the image {_shown(source)} is none: its content is not {_TAKEN}")
    return kind


def _check_data(url: str) -> int:
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ImageError(f"the image {_shown(url)} must be data:image/…;base64,…")
    try:
        beginning = base64.b64decode(data[: _HEAD * 4], validate=True)
    except binascii.Error:
        raise ImageError(f"the image {_shown(url)} is not base64") from None
    _check_image(url, beginning, len(data) * 3 // 4)
    return len(url)


def media_type(head: bytes) -> str | None:
    """Return what kind of image begins with these bytes; None: one that providers do not take.

    The bytes count, not the file's name: a provider refuses one that is not what it is called.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def data_url(url: str) -> str:
    """Return an image as it is sent: of a file, its content.

    Raises:
        ImageError: the file is gone, or no image any more.
    """
    if not is_file(url):
        return url
    path = _path(url)
    try:
        _check_file(str(path), path)
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"the image {path} cannot be read ({error.strerror})") from None
    kind = _check_image(str(path), content[:_HEAD], len(content))
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def digest(url: str) -> str:
    """Return what tells an image from another: of a file, a digest of its content.

    The content and not the path or the time, so that a dataset may be moved and copied; it is read
    for rows that are looked at anew, not for those that a run knows.
    """
    if not is_file(url):
        return url
    try:
        return f"image:{blake2b(_path(url).read_bytes(), digest_size=16).hexdigest()}"
    except OSError:
        return "image:none"


def is_lost(url: str) -> bool:
    """Return whether an image is a file that is not there."""
    return is_file(url) and not _path(url).exists()


def _shown(source: str) -> str:
    return shortened(source) if source.startswith("data:") else repr(source[:200])


def shortened(url: str) -> str:
    """Return a source to be looked at: a `data:` URL without its megabytes."""
    if not url.startswith("data:") or len(url) <= 2 * _SHOWN:
        return url
    return f"{url[:_SHOWN]}… ({len(url):,} characters)"
