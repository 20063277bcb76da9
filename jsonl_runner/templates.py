"""Prompts from a row's own fields: Jinja2 templates, in a sandbox.

A template has one of three forms, and its own text alone decides which, never a row's:

- Plain: it renders to the text of the user's message.
- Messages: each `{% message role="user" %}…{% endmessage %}` is one message (the tag is that of
  Haystack). What it renders is put into a list and never parsed, so no row's text can begin a
  message, as it can where `system:` at the beginning of a rendered line does
  (https://github.com/microsoft/promptflow/pull/2760,
  https://github.com/microsoft/prompty/issues/105).
- JSON: it begins with `[` and then `{` or a statement, and renders to a list of messages. Every
  `{{ … }}` in it must end in `| tojson`, so no row's text can end the JSON text that it stands in.

Rendering is repeatable: an input is read several times, and must be the same each time. So there is
no chance in a template. And it is one file: what it says is kept with the run, without others.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2 import pass_context as with_context
from jinja2.ext import Extension
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

from . import jsontext
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2 import Template as Compiled
    from jinja2.parser import Parser
    from jinja2.runtime import Context

#: Whose messages a template may write; a tool's need more than a text, which the JSON form can say.
ROLES = ("system", "developer", "user", "assistant")
#: Characters that a template may render: as many bytes as a row may have.
MAX_RENDERED = 16 * 1024 * 1024
#: A power above this is no part of a prompt, and may take for ever.
_MAX_EXPONENT = 1000
#: Where a render's own notes lie in its context; no template can write this name.
_NOTES = "\0notes"
#: The filter that a message's text goes through; nor this one.
_ADD = "\0add"
#: Statements that need other files, or that look as if they made messages.
_OF_OTHERS = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
_JSON_BEGINS = re.compile(r"\s*\[\s*(\{)?")
#: How a field is written elsewhere: `{name}`, `${name}`.
_ONE_BRACE = re.compile(r"(?<![{$])\$?\{ ?([^\W\d]\w*) ?\}(?!\})")
_NOT_THERE = re.compile(r"'([^']*)' is undefined|has no attribute '([^']*)'")


class _Notes:
    """What one render brings beside its text.

    Attributes:
        messages: those that are whole.
        images: of the message under way.
        left: how far `range` may still count.
    """

    __slots__ = ("images", "left", "messages")

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.images: list[str] = []
        self.left = MAX_RANGE


class _MessageTag(Extension):
    """`{% message role="user" %}…{% endmessage %}`: a filter block, but for how it is written."""

    tags = {"message"}  # noqa: RUF012  # as Jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the node of a tag."""
        line = next(parser.stream).lineno
        if not parser.stream.current.test("name:role"):
            parser.fail('write {% message role="user" %}', line)
        next(parser.stream)
        parser.stream.expect("assign")
        role = parser.parse_expression()
        if isinstance(role, nodes.Const) and role.value not in ROLES:
            parser.fail(_no_role(role.value), line)
        body = parser.parse_statements(("name:endmessage",), drop_needle=True)
        for inner in body:
            if any(map(_is_message, [inner, *inner.find_all(nodes.FilterBlock)])):
                parser.fail("a message stands within another", line)
        add = nodes.Filter(None, _ADD, [role], [], None, None).set_lineno(line)
        return nodes.FilterBlock(body, add).set_lineno(line)


def _is_message(node: nodes.Node) -> bool:
    return isinstance(node, nodes.FilterBlock) and node.filter.name == _ADD


@with_context
def _add(context: Context, text: str, role: object) -> str:
    """Add a message; it leaves nothing where it stands."""
    if role not in ROLES:
        raise ValueError(_no_role(role))
    notes: _Notes = context[_NOTES]
    text = text.removesuffix("\n")
    if not text.strip() and not notes.images:
        raise ValueError(f"the {role} message is empty")
    notes.messages.append({"role": role, "content": content_of(text, notes.images)})
    notes.images = []
    return ""


def content_of(text: str, images: list[str]) -> str | list[dict[str, Any]]:
    """Return a message's content: its images, and its text behind them."""
    if not images:
        return text
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": source}} for source in images
    ]
    return [*parts, {"type": "text", "text": text}] if text.strip() else parts


def _no_role(role: object) -> str:
    return f"a message's role is one of {', '.join(ROLES)}, not {str(role)[:40]!r}"


def _tojson(value: object, indent: int | None = None) -> str:
    """Return a value as JSON, letters of all alphabets as they are."""
    if isinstance(value, Undefined):
        str(value)  # raises what it is that is not there
    text = jsontext.dump(value).decode()
    if indent is None:
        return text
    return json.dumps(json.loads(text), ensure_ascii=False, indent=indent)


@with_context
def _image(context: Context, source: object) -> str:
    """Put an image into the message under way; it leaves nothing where it stands."""
    if isinstance(source, Undefined):
        str(source)
    if not isinstance(source, str):
        raise ValueError("| image wants a URL or a path, a text")
    notes: _Notes = context[_NOTES]
    notes.images.append(source)
    return ""


def _printed(value: object) -> object:
    """Return what `{{ … }}` prints; Python's word for null is none of a prompt's."""
    if value is None:
        raise ValueError('it is null; write {{ … or "" }} where that may be')
    return value


@with_context
def _range(context: Context, *args: int) -> range:
    """Return a range; all of one render together are bounded."""
    found = range(*args)
    notes: _Notes = context[_NOTES]
    notes.left -= len(found)
    if notes.left < 0:
        raise OverflowError(f"it counts beyond {MAX_RANGE:,}")
    return found


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox: nothing of Python's insides, no files, no chance, no endless work."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            finalize=_printed,
            extensions=[_MessageTag],
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.filters |= {"tojson": _tojson, "image": _image, _ADD: _add}
        self.globals["range"] = _range
        del self.filters["random"], self.globals["lipsum"]

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return what an operator makes of two values, if that is of a sensible size."""
        if operator == "**":
            if abs(right) > _MAX_EXPONENT or abs(left) > MAX_RENDERED:
                raise OverflowError("the power is too large")
        else:
            for text, times in ((left, right), (right, left)):
                if hasattr(text, "__len__") and len(text) * times > MAX_RENDERED:
                    raise OverflowError("the product is too large")
        return super().call_binop(context, operator, left, right)


class Template:
    """A compiled template.

    Args:
        text: the template.
        name: what messages call it, such as the name of its file.

    Raises:
        ConfigError: it cannot be used; names the line.
    """

    def __init__(self, text: str, name: str = "template") -> None:
        self._text, self._name = text, name
        environment = _Environment()
        try:
            tree = environment.parse(text, filename=name)
            self._check(tree)
            self._has_messages = any(map(_is_message, tree.find_all(nodes.FilterBlock)))
            self._is_json = not self._has_messages and _begins_json(tree)
            if self._has_messages:
                self._check_outside(tree)
            if self._is_json:
                self._check_json(tree)
            self._takes = meta.find_undeclared_variables(tree) - {*environment.globals}
            self._compiled: Compiled = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{name}:{error.lineno}: {_one_line(error.message)}") from None
        except RecursionError:
            raise ConfigError(f"{name}: it is nested too deep") from None
        self._render = self._compiled.root_render_func
        self._globals = environment.globals

    def check_takes(self, field: str | None = None) -> None:
        """See whether the template takes a field of its row, so that not all are asked the same.

        Args:
            field: the one that is to stand in it; None: any of them.

        Raises:
            ConfigError: it does not.
        """
        if self._takes and (field is None or {field, "row"} & self._takes):
            return
        near = _ONE_BRACE.search(self._text)
        name, instead = (near[1], f" for {near[0]}") if near else (field or "question", "")
        lacks = f"no {field}" if field else "no field of a row, so that all would be asked the same"
        raise ConfigError(f"{self._name}: it takes {lacks}; write {{{{ {name} }}}}{instead}")

    def render(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that a row is asked with: `instruction`, or `messages`.

        Raises:
            ValueError: it cannot be rendered for this row; names the template's line.
        """
        notes = _Notes()
        # Not Template.render, which would take the row apart and put it together twice more.
        names = {**self._globals, "row": row, **row, _NOTES: notes}
        context = self._compiled.new_context(names, shared=True)
        try:
            text = "".join(self._render(context))
        except UndefinedError as error:
            raise ValueError(self._at(error, _missing(error.message or "", row))) from None
        except Exception as error:  # a filter may raise anything  # noqa: BLE001
            reason = str(error) or type(error).__name__
            raise ValueError(self._at(error, _one_line(reason))) from None
        if len(text) > MAX_RENDERED:
            raise ValueError(f"{self._name}: it renders to {len(text):,} characters")
        if self._is_json:
            return {"messages": self._messages(text)}
        if not self._has_messages:
            if not notes.images:
                return {"instruction": text}
            return {"messages": [{"role": "user", "content": content_of(text, notes.images)}]}
        if text.strip() or notes.images:
            raise ValueError(f"{self._name}: it renders something outside of its messages")
        if not notes.messages:
            raise ValueError(f"{self._name}: it renders no message")
        return {"messages": notes.messages}

    def _messages(self, text: str) -> list[dict[str, Any]]:
        """Return the messages that a template of the JSON form rendered."""
        try:
            found = jsontext.load(text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise ValueError(f"{self._name}: it does not render to JSON ({error})") from None
        if not found:
            raise ValueError(f"{self._name}: it renders no message")
        return list(found)

    def _at(self, error: BaseException, reason: str) -> str:
        """Return a reason behind the line of the template that it came from."""
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._render.__code__.co_filename:
                line = self._compiled.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        where = self._name if line is None else f"{self._name}:{line}"
        return f"{where}: {reason}"

    def _check(self, tree: nodes.Template) -> None:
        """Refuse what no template may do, at its line."""
        for block in tree.find_all(nodes.Block):
            self._fail(
                f"{{% block {block.name} %}} does nothing here: a message is "
                '{% message role="user" %}…{% endmessage %}',
                block,
            )
        for node in tree.find_all(_OF_OTHERS):
            self._fail("a template is one file: it cannot take in others", node)
        for attribute in tree.find_all(nodes.Getattr):
            if attribute.attr.startswith("__"):
                self._fail(f"a template cannot reach {attribute.attr}", attribute)

    def _check_outside(self, tree: nodes.Template) -> None:
        """Refuse text that stands beside the messages."""
        for node in _outside(tree):
            if isinstance(node, nodes.TemplateData) and node.data.strip():
                shown = node.data.strip().split("\n")[0][:40]
                blank = len(node.data) - len(node.data.lstrip())
                line = node.lineno + node.data[:blank].count("\n")
                self._fail(f"{shown!r} stands outside of the messages", node, line)
            if isinstance(node, nodes.Filter) and node.name == "image":
                self._fail("| image stands outside of the messages", node)

    def _check_json(self, tree: nodes.Template) -> None:
        for output in tree.find_all(nodes.Output):
            for node in output.nodes:
                if not isinstance(node, nodes.TemplateData) and not (
                    isinstance(node, nodes.Filter) and node.name == "tojson"
                ):
                    self._fail(
                        "within JSON, write {{ … | tojson }}: a row's text could end it else", node
                    )

    def _fail(self, reason: str, node: nodes.Node, line: int | None = None) -> NoReturn:
        raise TemplateSyntaxError(reason, line or node.lineno, self._name)


def _begins_json(tree: nodes.Template) -> bool:
    """Return whether a template's own text begins as a list of messages."""
    for node in tree.body:
        if isinstance(node, nodes.Output):
            first, *others = node.nodes
            if not isinstance(first, nodes.TemplateData):
                return False
            if not first.data.strip() and not others:
                continue
            found = _JSON_BEGINS.match(first.data)
            if found is None:
                return False
            # A bracket before a statement: messages in a loop. One before a value is any text.
            return found[1] is not None or (found.end() == len(first.data) and not others)
        if not isinstance(node, nodes.Assign | nodes.AssignBlock | nodes.Macro):
            return False
    return False


def _outside(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield what is rendered where it stands, and in no message."""
    for child in node.iter_child_nodes():
        if not isinstance(child, nodes.Macro | nodes.AssignBlock) and not _is_message(child):
            yield child
            yield from _outside(child)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).rstrip(".")


def _missing(message: str, row: Mapping[str, Any]) -> str:
    """Return what is said of a name that is not there."""
    found = _NOT_THERE.search(message)
    if found is None:
        return _one_line(message)
    if found[1] is None:
        return f'there is no field "{found[2]}"'
    return no_field(found[1], row)


def no_field(name: str, row: Mapping[str, Any]) -> str:
    """Return the sentence about a field that a row has not, with those it has."""
    near = difflib.get_close_matches(name, row, 1)
    if near:
        return f'the row has no field "{name}"; did you mean "{near[0]}"?'
    shown = ", ".join(list(row)[:8]) + (", …" if len(row) > 8 else "")
    return f'the row has no field "{name}"; its fields are {shown or "none"}'
