"""JSON that fits a schema: what a model that heeds `response_format` would answer.

A sample and no more: of the commonest words of JSON Schema, those that say what stands where.
"""

from __future__ import annotations

from typing import Any

# Levels below which only what is required is made, so that a schema within itself has an end.
_DEEP = 3


def shaped(response_format: object, text: str) -> Any:
    """What has the shape that is asked for and holds a text; None where it asks for none."""
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return {"answer": text}
    if response_format.get("type") != "json_schema":
        return None
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else response_format.get("schema")
    return sample(schema, text, schema) if schema is not None else {"answer": text}


def sample(schema: Any, text: str, root: Any, depth: int = 0) -> Any:
    """A value that fits a schema; texts in it are `text` where the schema lets them be."""
    if not isinstance(schema, dict):
        return text
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = schema.get("$ref")
    if isinstance(inner, str):
        return sample(_at(root, inner), text, root, depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            merged = {**schema, **schema[word][0]}
            del merged[word]
            return sample(merged, text, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        required = schema.get("required", ())
        fields = schema.get("properties", {}).items()
        wanted = {name: inner for name, inner in fields if depth < _DEEP or name in required}
        return {name: sample(inner, text, root, depth + 1) for name, inner in wanted.items()}
    if kind == "array":
        count = schema.get("minItems", 1 if depth < _DEEP else 0)
        return [sample(schema.get("items"), text, root, depth + 1) for _ in range(count)]
    return _plain(kind, schema, text)


def _plain(kind: str, schema: dict[str, Any], text: str) -> Any:
    if kind in {"integer", "number"}:
        return schema.get("minimum", schema.get("maximum", schema.get("exclusiveMinimum", 0) + 1))
    if kind in {"boolean", "null"}:
        return True if kind == "boolean" else None
    return text[: schema.get("maxLength")].ljust(schema.get("minLength", 0), ".")


def _at(root: Any, reference: str) -> Any:
    """The schema a reference within the same schema (`#/$defs/name`) leads to."""
    for step in reference.removeprefix("#").split("/")[1:]:
        root = root[step.replace("~1", "/").replace("~0", "~")]
    return root
