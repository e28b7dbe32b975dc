"""YAML file and `section.key=value` overrides -> validated options; errors name file, line and the likely meaning.

YAML is read by the rules of version 1.2, which users expect: `1e-4` is a number, `no` and `off` are words, a date is a
word. Numbers in quotes stay text, and text where a number is expected is an error.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from ttrd3.environment import ROOT
from ttrd3.errors import ConfigError

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - filled below, replaces the 1.1 rules


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _number(kind: type) -> Callable[[_Loader, yaml.ScalarNode], int | float]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> int | float:
        text = loader.construct_scalar(node)
        try:
            return kind(text)
        except ValueError:  # `!!int many`, or thousands of digits
            raise yaml.constructor.ConstructorError(
                problem=f"found {text[:20]!r}, expected a number", problem_mark=node.start_mark
            ) from None

    return construct


_Loader.add_constructor("tag:yaml.org,2002:int", _number(int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(float))


@dataclass
class Document:
    """Plain data and where each key of it came from ("options/TTRD3.yml:12", "command line")."""

    data: Any
    source: str
    places: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """Where `key`, or else the nearest section around it, was written."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, self.source)


def read_yaml(path: Path) -> Document:
    """Parse a YAML file, remembering lines.

    Raises:
        ConfigError: Missing or unreadable file, broken YAML, a key given twice, no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(_missing_file(path)) from None
    except IsADirectoryError:
        there = ", ".join(_option_files(path)) or "none"
        raise ConfigError(f"{path}: is a folder, expected an options file. Option files there: {there}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: cannot be read as UTF-8 text (byte {error.start} is none), expected YAML. "
            "Save the options file as UTF-8; weights are given as weights=FILE."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Allow it, or give another file.") from None
    document = Document(None, str(path))
    document.data = _parse(text, document, line_numbers=True)
    if not isinstance(document.data, dict):
        raise ConfigError(f"{path}: found {_kind(document.data)} at the top, expected sections such as `model:`")
    return document


def override(document: Document, settings: Sequence[str]) -> None:
    """Apply `section.key=value` settings in place; the value is YAML, list entries are numbered from 0.

    Raises:
        ConfigError: No `=`, broken YAML in the value, or a path through something that is no section.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        parts = [part.strip() for part in name.split(".")]
        if not equals or not all(parts):
            raise ConfigError(f"command line: found {setting!r}, expected section.key=value")
        key: Key = tuple(int(part) if part.isdecimal() else part for part in parts)
        place = f"command line ({setting})"
        value = _parse(text, Document(None, place), line_numbers=False)
        target = document.data
        for depth, part in enumerate(key[:-1]):
            target = _descend(target, part, place, ".".join(map(str, key[: depth + 1])))
        if isinstance(target, list) and not (isinstance(key[-1], int) and key[-1] < len(target)):
            raise ConfigError(f"{place}: expected an entry number 0 to {len(target) - 1}, found {key[-1]!r}")
        if not isinstance(target, dict | list):
            raise ConfigError(f"{place}: {'.'.join(map(str, key[:-1]))} is {target!r}, not a section with options")
        target[key[-1]] = value
        for known in [k for k in document.places if k[: len(key)] == key]:
            del document.places[known]
        document.places[key] = place


def validate(model: type[Model], document: Document) -> Model:
    """Check the data against `model`.

    Raises:
        ConfigError: All problems, a line each: place, option, what was found, what was expected, a suggestion.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(model, document, details) for details in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def load(model: type[Model], path: Path, settings: Sequence[str] = ()) -> Model:
    """`read_yaml`, `override`, `validate`."""
    document = read_yaml(path)
    override(document, settings)
    return validate(model, document)


def to_yaml(options: BaseModel) -> str:
    """Resolved options as YAML that `load` reads back to the same."""
    return yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def flatten(data: Any, key: Key = ()) -> Iterator[tuple[str, Any]]:
    """("section.key", value) of every leaf; lists count as leaves unless they hold sections."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from flatten(value, (*key, name))
    elif isinstance(data, list) and any(isinstance(entry, dict) for entry in data):
        for number, value in enumerate(data):
            yield from flatten(value, (*key, number))
    else:
        yield ".".join(map(str, key)), data


def _parse(text: str, document: Document, line_numbers: bool) -> Any:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _construct(loader, node, (), document, line_numbers)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and line_numbers else ""
        raise ConfigError(f"{document.source}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{document.source}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(
            f"{document.source}: sections or lists are nested too deeply, or hold themselves (&name and *name)"
        ) from None


def _construct(loader: _Loader, node: yaml.Node, key: Key, document: Document, line_numbers: bool) -> Any:
    place = f"{document.source}:{node.start_mark.line + 1}" if line_numbers else document.source
    document.places.setdefault(key, place)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, n, (*key, i), document, line_numbers) for i, n in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    data: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        place = f"{document.source}:{key_node.start_mark.line + 1}" if line_numbers else document.source
        name = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(name, str):
            found = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or section"
            raise ConfigError(f"{place}: found {found} as an option's name, expected a word. Quote text with braces.")
        if name in data:
            raise ConfigError(f"{place}: {'.'.join(map(str, (*key, name)))} is given twice; keep one")
        document.places[(*key, name)] = place
        data[name] = _construct(loader, value_node, (*key, name), document, line_numbers)
    return data


def _descend(target: Any, part: str | int, place: str, name: str) -> Any:
    if isinstance(target, dict):
        if target.get(part) is None:
            target[part] = {}
        return target[part]
    if isinstance(target, list) and isinstance(part, int) and part < len(target):
        return target[part]
    raise ConfigError(f"{place}: there is no section {name}")


def _problem(model: type[BaseModel], document: Document, details: Any) -> str:
    """One pydantic error -> one line."""
    location, known, value = _locate(model, document.data, details["loc"])
    place, name = document.place(location), ".".join(map(str, location)) or "the file"
    match details["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Options here: {', '.join(known)}"
            return f"{place}: {name} is not an option. {hint}"
        case "missing":
            return f"{place}: {name} is missing"
        case "union_tag_not_found":
            return f"{place}: {name}.type is missing, expected one of: {details['ctx'].get('expected_tags', known)}"
        case "union_tag_invalid":
            expected = details["ctx"]["expected_tags"]
            close = difflib.get_close_matches(str(details["ctx"]["tag"]), re.findall(r"'([^']+)'", expected), n=1)
            hint = f". Did you mean {close[0]}?" if close else ""
            place = document.place((*location, "type"))
            return f"{place}: {name}.type: found {details['ctx']['tag']!r}, expected one of: {expected}{hint}"
        case "model_type" | "model_attributes_type":
            expected = "a section with options"
        case "string_pattern_mismatch":
            expected = f"text of the form {details['ctx']['pattern']}"
        case "too_short":
            expected = f"at least {details['ctx']['min_length']} entries"
        case "too_long":
            expected = f"at most {details['ctx']['max_length']} entries"
        case "value_error":  # of our own validators
            return f"{place}: {name}: {details['ctx']['error']}"
        case _:
            expected = re.sub(r"^Input should be ", "", details["msg"])
    return f"{place}: {name}: found {_kind(value)}, expected {expected}"


def _locate(model: Any, data: Any, location: tuple) -> tuple[Key, list[str], Any]:
    """pydantic's location -> our key (without the names of chosen types), known options there, value found."""
    key: list[str | int] = []
    known: list[str] = []
    for part in location:
        model = _strip(model)
        if get_origin(model) is Union:
            chosen = [option for option in get_args(model) if _label(option) == part]
            if chosen:
                model = chosen[0]
                continue
        if isinstance(model, type) and issubclass(model, BaseModel):
            known = [name for name in model.model_fields if name != "type"]
            model = model.model_fields[part].annotation if part in model.model_fields else None
        else:  # an entry of a list
            arguments = get_args(model)
            model = arguments[0] if arguments else None
        key.append(part)
        within = isinstance(data, list) and isinstance(part, int) and part < len(data)
        data = data[part] if within or (isinstance(data, dict) and part in data) else None
    return tuple(key), known, data


def _strip(annotation: Any) -> Any:
    """Annotated[X, ...] -> X; X | None -> X."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    arguments = [a for a in get_args(annotation) if a is not type(None)]
    return _strip(arguments[0]) if type(None) in get_args(annotation) and len(arguments) == 1 else annotation


def _label(option: Any) -> str | None:
    """What pydantic calls one of several choices: its Tag, or the `type:` that a schema of the registry stands for."""
    for mark in getattr(option, "__metadata__", ()):
        if isinstance(mark, Tag):
            return mark.tag
    kind = getattr(_strip(option), "model_fields", {}).get("type")
    return get_args(kind.annotation)[0] if kind else None


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true/false", dict: "a section", list: "a list", type(None): "nothing"}
    if isinstance(value, dict | list) or value is None:
        return names[type(value)]
    return f"{value!r}" + (f" ({names[type(value)]})" if type(value) in names else "")


def _missing_file(path: Path) -> str:
    there = _option_files(ROOT / "options") | _option_files(path.parent)
    close = difflib.get_close_matches(path.name, there, n=1)
    hint = f"Did you mean {there[close[0]]}?" if close else f"Option files: {', '.join(map(str, there.values()))}"
    return f"{path}: no such options file. {hint}"


def _option_files(folder: Path) -> dict[str, Path]:
    """Name -> path."""
    return {path.name: path for path in sorted(folder.glob("*.y*ml"))} if folder.is_dir() else {}
