"""A conversation: questions that remember what was said before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import jsontext
from .atomic import replacing
from .errors import LedgerError
from .records import Record
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .config import Config
    from .records import Outcome


class Conversation:
    """Turns of a user and a model, each asked with all that went before; for one thread.

    A turn is kept when it is answered. A question whose answer failed or was stopped is not kept
    either: two user messages in a row are refused by many models' templates, and half an answer
    would be continued as if the model had meant it to end there.

    Args:
        config: the settings.
        system: the system message; empty for none.
        note: is told what the user should know of the keys; may be called from any thread.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(
        self,
        config: Config,
        *,
        system: str = "",
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._note = note
        #: The system message, and the model that is asked; both may be changed between turns.
        self.system = system
        self.model = config.model
        self._turns: list[dict[str, Any]] = []
        self._session = Session(config, note=note)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said, in OpenAI's form, the system message first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self._turns]

    @property
    def waiting_for(self) -> str:
        """What holds up an answer (a rate limit, a server that is down); empty if nothing does."""
        view = self._session.view()
        return "" if view.in_flight else view.waiting_for

    @property
    def turns(self) -> int:
        """How many questions were answered."""
        return len(self._turns) // 2

    def say(
        self,
        text: str,
        on_text: Callable[[str], None] | None = None,
        on_restart: Callable[[], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Outcome:
        """Ask, with all that was said before; see `Session.ask`.

        Returns:
            What came of it; the turn is kept if there is an output.

        Raises:
            RunStoppedError: no key or endpoint can serve. The next question tries again: somebody
                may have paid the bill.
            KeyboardInterrupt: Ctrl-C; the call is given up.
        """
        if self._session.is_over:
            self._session.close()
            self._session = Session(self._config, note=self._note)
        asked = {"role": "user", "content": text}
        # The model is named by the question: one that is unknown is its fault, not the key's.
        params = {"model": self.model}
        record = Record("0", messages=[*self.messages, asked], params=params)
        outcome = self._session.ask(record, on_text=on_text, on_restart=on_restart, on_wait=on_wait)
        if outcome.output is not None:
            self._turns += [asked, {"role": "assistant", "content": outcome.output}]
        return outcome

    def clear(self) -> None:
        """Forget what was said; system message and model stay."""
        self._turns = []

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write what was said as a row that `run` takes: its index is the file's name.

        Args:
            path: a JSONL file, whole or not there afterwards.
            overwrite: whether it may take the place of one that is there.

        Raises:
            LedgerError: it is there already, cannot be written, or nothing was said.
        """
        if not self._turns:
            raise LedgerError("nothing has been said yet that could be saved")
        if path.exists() and not overwrite:
            raise LedgerError(f"{path}: is there already; name another file")
        row = jsontext.dump({"index": path.stem, "messages": self.messages})
        with replacing(path) as stream:
            stream.write(row + b"\n")

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()
