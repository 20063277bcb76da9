"""Counting tokens, and cutting texts by them. Nothing is fetched from anywhere.

tiktoken, OpenAI's own, does the counting. The two vocabularies lie in this package under the names
that tiktoken gives them, so that their folder is a cache in which it finds them.

A long text is counted block by block. The blocks are cut at seams only: places between two
characters which no pattern of the two encodings matches across, so that the sum is the count of the
whole (`_SEAM` says why).
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from .errors import ConfigError, InputError, JsonlRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tiktoken import Encoding

_log = logging.getLogger(__name__)

#: The same as `config.DEFAULT_MODEL`, which stands a floor above; a test holds them together.
DEFAULT_MODEL = "gpt-4.1-mini"

#: Models by what their names begin with, as tiktoken 0.14 has them (tiktoken/model.py).
#: o200k_harmony differs from o200k_base in special tokens only, which are plain text here.
_FAMILIES = {
    "o200k_base": r"(chat)?gpt-4o|gpt-4\.[15]|gpt-5(\.\d+)?|gpt-oss|o[134]|o200k_(base|harmony)",
    "cl100k_base": r"gpt-4|gpt-3\.?5|text-embedding-(3|ada-002)|(davinci|babbage)-002|cl100k_base",
}
#: Before the name: a gateway's prefix (`openai/`), and `ft:` of a fine-tuned model.
_NAMES = {
    name: re.compile(rf"(.*/)?(ft:)?({family})(?=[-:@]|$)", re.IGNORECASE)
    for name, family in _FAMILIES.items()
}
_UNKNOWN = "o200k_base"

_VOCABULARIES = Path(__file__).parent / "vocabularies"
#: The SHA-1 of the address is what tiktoken calls the file; its SHA-256 is what it expects.
_FILES = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
_CACHE_DIR = "TIKTOKEN_CACHE_DIR"
_loading = threading.Lock()

#: Characters a block has at least, and at the most. tiktoken's regex engine panics (a
#: BaseException, and a backtrace on stderr) on a run of 999,995 white characters.
_BLOCK = 2**17
_LONGEST_BLOCK = 2**19
#: Bytes of a file that are read at once.
_CHUNK = 2**18

#: Where a text can be cut and each side be counted alone. Patterns never look back, so it is enough
#: that a match ends here whatever follows. Those of o200k_base and cl100k_base take: at most one
#: character that is neither letter nor digit, then letters, then 's and the like; one to three
#: digits; other characters, then line ends and (o200k) slashes; white space, in which all up to the
#: last line end goes first, and the last character before a word may be left to that word.
_SEAM = re.compile(
    r"(?<=[\r\n])(?=[^\s/])"  # behind a line end, unless the run goes on
    r"|(?<=\S)(?= )"  # before the first space: all kinds of matches end there
    # Behind a letter or digit (of old and large alphabets), before white space or punctuation, but
    # for the apostrophe.
    r"|(?<=[0-9A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3])"
    r"(?=[\t\r\n!-&(-/:-@\[-_{-~\u3001\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f])"
    r"|(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z])(?=[0-9])"
)
#: Characters at the end of a text among which `_Meter` looks for a seam.
_NEAR = 100


class Tokenizer(NamedTuple):
    """What counts for a model.

    Attributes:
        encoding: `o200k_base` or `cl100k_base`.
        note: one line for the user where it is a guess, else None.
    """

    encoding: str
    note: str | None


class TokenCount(NamedTuple):
    """How many tokens a text has.

    Attributes:
        tokens: the number.
        exact: False where a stretch of half a million characters had no seam (white space, or
            letters with nothing between them) and was cut anywhere: a few tokens off for each cut.
    """

    tokens: int
    exact: bool


def tokenizer_of(model: str) -> Tokenizer:
    """Return what counts for a model, or for an encoding by its own name.

    A gateway's prefix, `ft:` and whatever follows the family's name do not matter, nor does case:
    `openai/gpt-4o`, `ft:gpt-3.5-turbo-0125:org::id`, `gpt-35-turbo` (Azure). Models that are not
    known are counted as o200k_base counts, with a note.
    """
    name = model.strip()
    for encoding, pattern in _NAMES.items():
        if pattern.match(name):
            return Tokenizer(encoding, None)
    return Tokenizer(
        _UNKNOWN, f"the tokenizer of {name!r} is not known; counted as {_UNKNOWN} counts"
    )


def num_tokens_from_string(
    text: str, model: str = DEFAULT_MODEL, *, encoding_name: str | None = None
) -> int:
    """Return how many tokens a text has.

    Special tokens such as `<|endoftext|>` count as the plain text they are in a prompt; a lone
    surrogate counts as the U+FFFD that would be sent for it.

    Args:
        text: any text. The count is tiktoken's own, but for texts above half a million characters
            in which so many come without a seam: see `TokenCount.exact`.
        model: a model's name or an encoding's. One that is not known counts as o200k_base, which is
            logged once for each name (logger `jsonl_runner.tokens`, level WARNING).
        encoding_name: the same, by the name it had in openai-parallel-toolkit.

    Raises:
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    return _count(_encoding_for(encoding_name or model), [text]).tokens


def count_tokens(stream: IO[bytes], name: str, model: str = DEFAULT_MODEL) -> TokenCount:
    """Return how many tokens a UTF-8 file has, in memory that does not grow with it.

    A byte order mark is no part of the text.

    Args:
        stream: the file, open for reading.
        name: what to call it in a message.
        model: as `num_tokens_from_string` takes it.

    Raises:
        InputError: it is not UTF-8, or cannot be read.
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    return _count(_encoding_for(model), read_text(stream, name))


def read_text(stream: IO[bytes], name: str) -> Iterator[str]:
    """Yield the text of a UTF-8 file piece by piece, line ends as they are.

    Raises:
        InputError: it is not UTF-8 (with the offset of the byte, from 0), or cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    while True:
        try:
            data = stream.read(_CHUNK)
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror or error})") from None
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            # Its positions are those in what was left over and the new bytes together.
            at = offset + len(data) - len(error.object) + error.start
            raise InputError(
                f"{name}: not UTF-8 at byte {at:,} ({error.reason}); convert it (iconv -t UTF-8)"
            ) from None
        yield text
        if not data:
            return
        offset += len(data)


def split_string_by_tokens(
    string: str, thunk_len: int, split_signal: str, model: str = DEFAULT_MODEL
) -> list[str]:
    r"""Cut a text into parts of at most `thunk_len` tokens, at `split_signal` only.

    Nothing is lost or changed: `"".join(parts) == string`. Each part ends with the signal that it
    was cut at, and holds as many sentences (what ends with a signal) as fit. A sentence that is
    longer stays whole and is a part of its own; every other part, counted by itself as
    `num_tokens_from_string` counts, has at most `thunk_len` tokens.

    Args:
        string: the text; an empty one has no parts.
        thunk_len: tokens, at least 1.
        split_signal: where cuts may be, such as `"\n"` or `"。"`; not empty.
        model: as `num_tokens_from_string` takes it.

    Raises:
        ConfigError: `thunk_len` is below 1, or there is no signal.
        JsonlRunnerError: a vocabulary of this package is damaged.
    """
    if thunk_len < 1:
        raise ConfigError(f"thunk_len must be at least 1 token, not {thunk_len}")
    if not split_signal:
        raise ConfigError("split_signal is empty: say at which text to split")
    encoding = _encoding_for(model)
    *ended, last = string.split(split_signal)
    sentences = [sentence + split_signal for sentence in ended] + ([last] if last else [])
    sentences.reverse()  # taken from the end, and put back there
    parts = []
    while sentences:
        parts.append(_take_part(sentences, thunk_len, encoding))
    return parts


def _take_part(sentences: list[str], limit: int, encoding: Encoding) -> str:
    """Take the next sentences (the last of the list is first) as far as they fit; at least one."""
    meter = _Meter(encoding)
    taken = [sentences.pop()]
    meter.add(taken[0])
    while sentences and meter.add(sentences[-1]) <= limit:
        taken.append(sentences.pop())
    while len(taken) > 1:
        # The meter may be a token off where sentences flow into one another: a part is counted.
        over = _count(encoding, ["".join(taken)]).tokens - limit
        if over <= 0:
            break
        while over > 0 and len(taken) > 1:
            sentences.append(taken.pop())
            over -= _count(encoding, [sentences[-1]]).tokens
    return "".join(taken)


class _Meter:
    """Counts a text that grows, without counting its beginning again."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._settled = 0  # tokens of what stands before the tail
        self._tail = ""
        self._tail_tokens = 0

    def add(self, text: str) -> int:
        """Return the tokens of all that was added; see `_NEAR` for where it may be a token off."""
        grown = self._tail + text
        seams = list(_SEAM.finditer(grown, max(0, len(grown) - _NEAR)))
        if seams:
            end = seams[-1].start()
            self._settled += self._count(grown[:end])
            self._tail = grown[end:]
            self._tail_tokens = self._count(self._tail)
        elif len(grown) <= _NEAR:
            self._tail, self._tail_tokens = grown, self._count(grown)
        else:  # as if there were a seam: to count a long tail again and again would be quadratic
            self._settled += self._tail_tokens
            self._tail, self._tail_tokens = text, self._count(text)
        return self._settled + self._tail_tokens

    def _count(self, text: str) -> int:
        return _count(self._encoding, [text]).tokens


def _count(encoding: Encoding, texts: Iterable[str]) -> TokenCount:
    tokens, exact = 0, True
    for block, ends_at_seam in _blocks(texts):
        tokens += len(encoding.encode_ordinary(block))
        exact = exact and ends_at_seam
    return TokenCount(tokens, exact)


def _blocks(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield a text that comes in pieces as blocks, and whether each ends where it may be cut."""
    rest = ""
    for piece in texts:
        text = rest + piece
        start = 0
        while len(text) - start > _LONGEST_BLOCK:
            limit = start + _LONGEST_BLOCK
            seam = _SEAM.search(text, start + _BLOCK, limit)
            end = seam.start() if seam else limit
            yield text[start:end], seam is not None
            start = end
        rest = text[start:]
    if rest:
        yield rest, True


@functools.lru_cache(maxsize=1024)
def _encoding_for(model: str) -> Encoding:
    """Return the encoding for a model; log it if that is a guess (once, since it is kept)."""
    name, note = tokenizer_of(model)
    if note:
        _log.warning("%s", note)
    return _load(name)


def _load(name: str) -> Encoding:
    """Return an encoding out of this package's own vocabulary.

    Raises:
        JsonlRunnerError: the vocabulary is damaged or not there.
    """
    import tiktoken  # noqa: PLC0415  # `--help` and a run without counting need not wait for it

    file, digest = _FILES[name]
    path = _VOCABULARIES / file
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        found = error.strerror or str(error)
    if found != digest:  # tiktoken would delete it and ask the network
        raise JsonlRunnerError(f"{path}: the vocabulary {name} is damaged: install this again")
    # Set no longer than it takes: programs started by this process have caches of their own. A
    # folder that the user has set is passed over; what is in it is the same, or refused.
    with _loading:
        before = os.environ.get(_CACHE_DIR)
        os.environ[_CACHE_DIR] = str(_VOCABULARIES)
        try:
            return tiktoken.get_encoding(name)
        finally:
            if before is None:
                os.environ.pop(_CACHE_DIR, None)
            else:
                os.environ[_CACHE_DIR] = before
