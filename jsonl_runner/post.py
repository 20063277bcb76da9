"""A function of the user's that every answer goes through: `--post module:function`.

It strips, parses or judges an answer, and returns what is to stand in the ledger. It runs in the
worker threads, several at the same time. Whatever it does costs its own row at the most: the answer
was paid for, and stays in the call log.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from . import jsontext
from .errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from .records import Record

#: Takes an answer, and its Record if it has two parameters that must be given.
Function: TypeAlias = Callable[..., Any]

_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class PostError(Exception):
    """The function made no output of an answer; the message says why, in a line."""


class Post:
    """See above.

    Args:
        function: takes the answer's text, or the text and the Record.
        name: what messages call it.

    Raises:
        ConfigError: it cannot be called so.
    """

    def __init__(self, function: Function, name: str) -> None:
        if not callable(function):
            raise ConfigError(f"{name}: this is {type(function).__name__}, not a function")
        if inspect.iscoroutinefunction(function):
            raise ConfigError(f"{name}: it is an async function; give one that returns the output")
        self._function = function
        self._takes_record = _takes_two(function, name)

    def __call__(self, answer: str, record: Record) -> str:
        """Return the output that the function makes of an answer.

        A text is taken as it is; a dictionary or a list becomes its JSON.

        Raises:
            PostError: it raised something, or returned nothing that can be an output.
        """
        try:
            given = (answer, record) if self._takes_record else (answer,)
            returned = self._function(*given)
            if isinstance(returned, (dict, list)):
                return jsontext.dump(returned).decode()
        except BaseException as error:
            # Ctrl-C reaches the main thread alone; SystemExit and the like are the function's own.
            if isinstance(error, KeyboardInterrupt) and _is_main():
                raise
            raise PostError(_in_words(error)) from None
        if isinstance(returned, str) and returned.strip():
            return returned
        what = "an empty text" if isinstance(returned, str) else type(returned).__name__
        what = "None" if returned is None else what
        raise PostError(f"it returned {what}: a text, a dict or a list would be an output")


def load_post(wanted: str | Function | None) -> Post | None:
    """Return the function that a setting names, None where it names none.

    Args:
        wanted: `module:function`, or the function itself. The module is looked for in the current
            folder first, then where Python finds its own.

    Raises:
        ConfigError: there is no such module or function, or the module cannot be imported.
    """
    if wanted is None:
        return None
    if not isinstance(wanted, str):
        return Post(wanted, "post")
    module_name, _, path = wanted.partition(":")
    found: Any = _imported(module_name, wanted)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = getattr(found, "__file__", None)
            raise ConfigError(
                f"post {wanted}: {module_name} has no {path}" + (f" ({where})" if where else "")
            ) from None
    return Post(found, f"post {wanted}")


def _imported(name: str, wanted: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109  # as sys.path has it
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ConfigError(
                f"post {wanted}: there is no module {name}; write module:function, and run it in "
                f"the folder where {name}.py lies"
            ) from None
        raise ConfigError(
            f"post {wanted}: {name} cannot be imported ({_in_words(error)})"
        ) from None
    finally:
        # What it imports later is found too, but hides none of our own modules or Python's.
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


def _takes_two(function: Function, name: str) -> bool:
    """Return whether two parameters must be given; one more that may be is an option of its own."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # some built-ins tell nothing of themselves
        return False
    needed = [p for p in parameters if p.kind in _KINDS and p.default is p.empty]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    takes_any = any(p.kind in _KINDS or p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(needed) > 2 or keywords or not takes_any:
        raise ConfigError(f"{name}: it must take (answer) or (answer, record)")
    return len(needed) == 2


def _in_words(error: BaseException) -> str:
    """Return an error in a line, as the end of a traceback has it."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  # its own __str__ may be anything
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
