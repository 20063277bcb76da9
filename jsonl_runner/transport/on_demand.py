"""The SDK's clients for functions of the user's, made when the first one is asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai

    from .base import TransportSettings
    from .sdk import Clients


class ClientsOnDemand:
    """Gives each key its `openai.OpenAI`, whatever transport the run itself uses.

    Importing the SDK takes a second, which a function that does not ask for it need not wait.

    Args:
        settings: where to, and the time limits.
        user_agent: the header of that name.
        on_abort: takes what is to be called when calls under way must end.
    """

    def __init__(
        self,
        settings: TransportSettings,
        on_abort: Callable[[Callable[[], None]], None],
        user_agent: str = "jsonl-runner",
    ) -> None:
        self._settings = settings
        self._on_abort = on_abort
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._clients: Clients | None = None

    def of(self, key: str) -> openai.OpenAI:
        """Return the client of a key, for any thread.

        Raises:
            ConfigError: the proxy, the certificates or the account's variables cannot be used.
            TransportError: the address is none.
        """
        clients = self._clients
        if clients is None:
            with self._lock:
                clients = self._clients or self._make()
        return clients.of(key)

    def hang_up(self, thread: int) -> None:
        """End the call that a thread is making."""
        if self._clients is not None:
            self._clients.hang_up(thread)

    def close(self) -> None:
        """Close the connections."""
        if self._clients is not None:
            self._clients.close()

    def _make(self) -> Clients:
        from .sdk import Clients  # noqa: PLC0415  # a second

        self._clients = Clients(self._settings, self._user_agent)
        self._on_abort(self._clients.abort)
        return self._clients
