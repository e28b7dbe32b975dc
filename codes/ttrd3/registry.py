"""Name -> class; a class's signature is its schema.

Parameters before the `*` of a constructor are options: they can be set in YAML, and their annotations (with
`pydantic.Field` bounds where needed) are what is checked. Keyword-only parameters are given by the program.
The lines `name: text` under "Options:" in a class's docstring describe its options in `options/schema.json`.
"""

import functools
import inspect
import re
from typing import Annotated, Any, Literal, Union, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ttrd3.errors import ConfigError

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every section of options: unknown keys and ill-typed values are errors."""

    model_config = STRICT


@functools.cache
def schema_of(target: type, kind: str | None = None) -> type[Section]:
    """The pydantic model of what `target` takes from YAML; with `kind`, a required key `type: kind` beside it."""
    hints = get_type_hints(target.__init__, include_extras=True)
    texts = _option_texts(inspect.getdoc(target) or "")
    fields: dict[str, Any] = {} if kind is None else {"type": (Literal[kind], ...)}
    for parameter in list(inspect.signature(target.__init__).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD or parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError(f"{target.__name__} takes {parameter}: what YAML reaches must name its options")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            default = ... if parameter.default is parameter.empty else parameter.default
            default = list(default) if isinstance(default, tuple) else default  # YAML has lists only
            field = Field(default, description=texts.get(parameter.name))
            fields[parameter.name] = (hints[parameter.name], field)
    summary = (inspect.getdoc(target) or "").split("\n\n")[0]
    return create_model(target.__name__, __base__=Section, __doc__=summary, **fields)


def _option_texts(docstring: str) -> dict[str, str]:
    """The `name: text` lines of the "Options:" block, continuation lines joined."""
    block = re.search(r"^Options:\n((?:[ ]+.*\n?|\n)*)", docstring, re.MULTILINE)
    texts: dict[str, str] = {}
    for line in block.group(1).splitlines() if block else ():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry.group(1)
            texts[name] = entry.group(2)
        elif line.strip():
            texts[name] += " " + line.strip()
    return texts


class Registry(dict[str, type]):
    """Classes of one kind ("unet", "loss") by the name that a YAML `type:` gives."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str):
        """Class decorator: make the class known under `name`."""

        def add(target: type) -> type:
            if name in self:
                raise ValueError(f"two {self.kind} classes are called {name!r}: {self[name]} and {target}")
            self[name] = target
            return target

        return add

    @property
    def options(self) -> Any:
        """The annotation of an option that holds one entry of this registry, told apart by `type`."""
        schemas = tuple(schema_of(target, name) for name, target in sorted(self.items()))
        return schemas[0] if len(schemas) == 1 else Annotated[Union[schemas], Field(discriminator="type")]  # noqa: UP007

    def build(self, options: Section | dict[str, Any], at: str, **runtime: Any) -> Any:
        """Construct the class that `options["type"]` names.

        Args:
            options: A validated section, or a plain dictionary, which is validated here.
            at: Where the options stand ("model.unet"), for error messages.
            runtime: What the program itself gives (the keyword-only parameters).

        Raises:
            ConfigError: Unknown type, unknown option, ill-typed option.
        """
        values = options.model_dump() if isinstance(options, Section) else dict(options)
        name = values.get("type")
        if name not in self:
            raise ConfigError(f"{at}.type: found {name!r}, expected one of: {', '.join(sorted(self))}")
        try:
            checked = schema_of(self[name], name).model_validate(values)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{at}: {problems}") from None
        return construct(self[name], checked, **runtime)


def construct(target: type, options: Section, **runtime: Any) -> Any:
    """`target(**options, **runtime)` for options already validated by `schema_of(target)`."""
    return target(**options.model_dump(exclude={"type"}), **runtime)
