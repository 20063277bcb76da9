"""Files in groups (`openai`, `parallel`, `cache`) brought to the flat names of the settings."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError
from .table import BY_NAME, GROUPS, REQUEST_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Given(NamedTuple):
    """A setting as one source gives it.

    Attributes:
        name: its flat name.
        value: as it was given.
        written: its name as it was written there.
        is_reference: whether the value came from the environment through a file: it may be a key
            in the wrong place, and is not shown.
    """

    name: str
    value: Any
    written: str
    is_reference: bool = False


def merged(settings: Iterable[Given], source: str) -> list[Given]:
    """Return the settings of a file, each once.

    Raises:
        ConfigError: two names are given for one thing.
    """
    found: dict[str, Given] = {}
    params: dict[str, Given] = {}
    for given in settings:
        if given.name == "params" and given.written != "params":
            params[given.written.rpartition(".")[2]] = given
        elif given.name in found:
            _refuse_twice(source, found[given.name].written, given.written)
        else:
            found[given.name] = given
    return [*_with_params(found, params, source).values()]


def _with_params(
    found: dict[str, Given], params: dict[str, Given], source: str
) -> dict[str, Given]:
    """Return the settings with the request parameters of the group `openai` among `params`."""
    flat = found.get("params")
    if not params or (flat is not None and not isinstance(flat.value, dict)):
        return found  # that is for the check to refuse
    values = {} if flat is None else dict(flat.value)
    for name, given in params.items():
        if name in values:
            _refuse_twice(source, f"params.{name}", given.written)
        values[name] = given.value
    names = [] if flat is None else [flat.written]
    written = ", ".join(names + [given.written for given in params.values()])
    return {**found, "params": Given("params", values, written)}


def _refuse_twice(source: str, first: str, second: str) -> None:
    raise ConfigError(f"{source}: {first} and {second} are two names of one thing: give one")


def entries(data: Mapping[Any, Any], source: str) -> Iterator[Given]:
    """Yield the settings of a file that may stand in groups, as they are written.

    Raises:
        ConfigError: a name is unknown, or a group is none.
    """
    for key, value in data.items():
        name = str(key)  # YAML knows keys that are no texts
        names = GROUPS.get(name)
        is_switch = name in BY_NAME and value is not None and not isinstance(value, dict)
        if names is None or is_switch:  # `cache` is both
            yield from _unless_empty(Given(known(name, source), value, name))
            continue
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{source}: {name} must be a group of settings ({_some(names)})")
        for inner, inner_value in (value or {}).items():
            if inner not in names:
                hint = _hint_within(name, str(inner))
                raise ConfigError(f"{source}: unknown setting '{name}.{inner}'; {hint}")
            yield from _unless_empty(Given(names[inner], inner_value, f"{name}.{inner}"))


def _unless_empty(given: Given) -> Iterator[Given]:
    if (given.name, given.value) != ("api_keys", None):  # a list whose every entry is a comment
        yield given


def known(name: str, source: str) -> str:
    """Return the flat name of a setting.

    Raises:
        ConfigError: there is none of that name; it brings the nearest.
    """
    if name in BY_NAME:
        return name
    raise ConfigError(f"{source}: unknown setting {name!r}; {_hint(name)}")


def known_variable(variable: str, prefix: str, source: str) -> None:
    """Check the name of an environment variable that begins as those of settings do.

    A name that is merely passed over might be the limit on what a run may cost.

    Raises:
        ConfigError: no setting has it; it brings the nearest.
    """
    name = variable.removeprefix(prefix)
    if name.isupper() and name.lower() in BY_NAME:
        return
    flat = {inner: outer for names in GROUPS.values() for inner, outer in names.items()}
    near = flat.get(name.lower()) or next(
        iter(difflib.get_close_matches(name.lower(), BY_NAME, 1, 0.5)), None
    )
    hint = "unset it" if near is None else f"did you mean {prefix}{near.upper()}?"
    if near == "params":
        hint = "it is a request parameter: put it into params"
    raise ConfigError(f"{source}: {variable} is no setting; {hint}")


def _hint(name: str) -> str:
    if name in REQUEST_PARAMETERS:
        return "it is a request parameter: put it into params"
    for names in GROUPS.values():
        if name in names:
            return f"did you mean {names[name]!r}?"
    nearest = difflib.get_close_matches(name, GROUPS, 1, 0.8)
    nearest = nearest or difflib.get_close_matches(name, BY_NAME, 1, 0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(BY_NAME)}"


def _hint_within(group: str, name: str) -> str:
    for other, names in GROUPS.items():
        if name in names:
            return f"did you mean '{other}.{name}'?"
    if name in BY_NAME:
        return f"write {name} outside the group"
    if nearest := difflib.get_close_matches(name, GROUPS[group], 1, 0.5):
        return f"did you mean '{group}.{nearest[0]}'?"
    return f"known: {_some(GROUPS[group])}"


def _some(names: Mapping[str, str]) -> str:
    """Return a group's names, of the request parameters only that there are any."""
    own = [name for name, flat in names.items() if flat != "params"]
    return ", ".join(own) + (", and request parameters" if len(own) < len(names) else "")
