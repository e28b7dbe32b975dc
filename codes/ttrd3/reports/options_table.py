"""Every option with its type, default and meaning, read off the JSON schema."""

import json
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def options_table(schema: Schema) -> str:
    """A Markdown page of the options that `schema` (of `Options.model_json_schema()`) describes."""
    lines = [
        "# Every option",
        "Written by `ttrd3 config --describe`. What only one `type:` takes stands under `section (type)`;",
        "N is the number of an entry in a list, from 0.",
        "",
    ]
    lines += ["| option | values | default | meaning |", "|---|---|---|---|"]
    for name, values, default, meaning in _rows(schema, schema, ""):
        lines.append(f"| `{name}` | {values} | {default} | {meaning} |")
    return "\n".join(lines)


def _rows(schema: Schema, part: Schema, name: str) -> Iterator[tuple[str, str, str, str]]:
    for key, entry in part.get("properties", {}).items():
        if key == "type":
            continue
        full = f"{name}.{key}" if name else key
        default = "required" if key in part.get("required", []) else f"`{json.dumps(entry.get('default'))}`"
        items = entry.get("items", {})
        sections = _sections(schema, entry) or _sections(schema, items)
        if sections:
            for section in sections:
                kind = section.get("properties", {}).get("type", {}).get("const")
                number = ".N" if "items" in entry else ""
                yield from _rows(schema, section, f"{full}{number}" + (f" ({kind})" if kind else ""))
        else:
            yield full, _values(entry), default, entry.get("description", "")


def _sections(schema: Schema, entry: Schema) -> list[Schema]:
    """The object schemas that `entry` refers to, one per `type` where there is a choice."""
    references = [entry["$ref"]] if "$ref" in entry else [o["$ref"] for o in entry.get("oneOf", []) if "$ref" in o]
    return [schema["$defs"][reference.rsplit("/", 1)[1]] for reference in references]


def _values(entry: Schema) -> str:
    if "anyOf" in entry or "oneOf" in entry:
        return " or ".join(_values(option) for option in entry.get("anyOf") or entry["oneOf"])
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    kind = {"number": "number", "integer": "integer", "boolean": "true/false", "string": "text", "null": "null"}
    if entry.get("type") == "array":
        return f"list of {_values(entry.get('items', {}))}"
    text = kind.get(entry.get("type", ""), "")
    low, high = entry.get("minimum", entry.get("exclusiveMinimum")), entry.get("maximum", entry.get("exclusiveMaximum"))
    bounds = [f"{'above' if 'exclusiveMinimum' in entry else 'from'} {low}"] if low is not None else []
    if high is not None and high < 2**62:  # beyond, it only says that it must fit a machine integer
        bounds.append(f"{'below' if 'exclusiveMaximum' in entry else 'to'} {high}")
    bounds += [f"multiple of {entry['multipleOf']}"] if "multipleOf" in entry else []
    return " ".join([text, *bounds])
