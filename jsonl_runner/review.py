"""What becomes of an answer: whether it is what was asked for, and what is written of it.

First it is checked against the `response_format` of its request, then it goes through the user's
function (`post`). An answer that comes to nothing was paid for all the same: whoever reviews it
keeps it in the call log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .attempts import CALLS
from .post import PostError
from .schemas import check_of_format
from .secret import MAX_MESSAGE, shorten

if TYPE_CHECKING:
    from .attempts import Answer
    from .post import Post
    from .records import Record
    from .schemas import Check
    from .secret import Redactor


class Reviewed(NamedTuple):
    """What came of an answer.

    Attributes:
        output: what goes into the ledger; None: it will not do.
        code: `ok`, `json`, `schema`, `length` or `post`.
        message: one line on what is wrong with it.
        can_mend: whether the model may do better when it is told.
    """

    output: str | None
    code: str = "ok"
    message: str = ""
    can_mend: bool = False


class Review:
    """See above; for any number of threads.

    Args:
        post: the user's function; None: there is none.
        redact: takes keys out of its messages.
    """

    def __init__(self, post: Post | None, redact: Redactor) -> None:
        self._post = post
        self._redact = redact
        #: Whether answers that are to have no shape need a look all the same.
        self.is_always = post is not None

    def __call__(self, record: Record, shape: object, answer: Answer) -> Reviewed:
        """Return what comes of an answer.

        Args:
            record: what was asked, as the input has it.
            shape: the `response_format` that was asked for; None: none.
            answer: with a text.
        """
        text = answer.text or ""
        wrong = self._wrong(shape, answer, text)
        if wrong is not None:
            return wrong
        if self._post is None:
            return Reviewed(text)
        try:
            return Reviewed(self._post(text, record))
        except PostError as error:
            return Reviewed(None, "post", shorten(self._redact(str(error)), MAX_MESSAGE))

    def fits(self, shape: object, answer: Answer) -> bool:
        """Return whether an answer is what was asked for; a tenth of the cost of saying why not."""
        check = _check_of(shape, answer)
        return check is None or check.fits(answer.text or "")

    def _wrong(self, shape: object, answer: Answer, text: str) -> Reviewed | None:
        check = _check_of(shape, answer)
        problem = None if check is None else check.problem(text)
        if problem is None:
            return None
        reason = self._redact(problem.reason)
        if answer.finish_reason == "length":
            # It would be cut off again, and be paid for again.
            reason = f"cut off at max_tokens, so it is no whole JSON ({reason}); raise max_tokens"
            return Reviewed(None, "length", shorten(reason, MAX_MESSAGE))
        return Reviewed(None, problem.code, shorten(reason, MAX_MESSAGE), can_mend=True)


def _check_of(shape: object, answer: Answer) -> Check | None:
    """Return what an answer is to be checked against; None: nothing."""
    if shape is None or answer.finish_reason in CALLS:
        return None
    try:
        return check_of_format(shape)
    except ValueError:  # of a function's own request: looked at by nobody before
        return None
