"""The option file: what is accepted, and what a mistake is told."""

import json
import re

import jsonschema
import pytest
import yaml

from ttrd3 import config
from ttrd3.engine.options import Options, load_options
from ttrd3.environment import ROOT
from ttrd3.errors import ConfigError
from ttrd3.registry import Registry, schema_of
from ttrd3.reports.options_table import options_table

FILES = sorted((ROOT / "options").glob("*.yml"))
QUICK = str(ROOT / "options" / "quickstart.yml")


def write(tmp_path, **changes):
    """quickstart.yml with `section__key=value` changed as plain text lines of YAML."""
    data = yaml.safe_load((ROOT / "options" / "quickstart.yml").read_text())
    data["train"]["learning_rate"] = 1e-3
    for name, value in changes.items():
        *sections, key = name.split("__")
        target = data
        for section in sections:
            target = target[section]
        target[key] = value
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_shipped_file_is_valid_and_complete(path):
    options = load_options([str(path)])
    written = config.read_yaml(path).data
    given = {name for name, _ in config.flatten(written)}
    assert given == {name for name, _ in config.flatten(options.model_dump())}, "an option is not written out"
    lines = path.read_text().splitlines()
    keys = {name.rsplit(".", 1)[1] for name in given if "." in name and not name.startswith(("losses", "val.metrics"))}
    # Where a key stands twice (training and validation data), one comment serves both.
    uncommented = {k for k in keys - {"type"} if not any(re.match(rf" *{k}: .*# \S", line) for line in lines)}
    assert uncommented == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_schema_for_editors_accepts_every_shipped_file(path):
    schema = json.loads((ROOT / "options" / "schema.json").read_text())
    jsonschema.validate(config.read_yaml(path).data, schema)


def test_the_schema_for_editors_is_up_to_date():
    stored = json.loads((ROOT / "options" / "schema.json").read_text())
    assert stored == Options.model_json_schema(), "run: ttrd3 config --schema > options/schema.json"


def test_the_page_of_options_is_up_to_date():
    stored = (ROOT / "options" / "README.md").read_text()
    assert stored == options_table(Options.model_json_schema()) + "\n", (
        "run: ttrd3 config --describe > options/README.md"
    )
    for name, _ in config.flatten(load_options([QUICK]).model_dump()):
        if not name.startswith(("losses", "val.metrics")) and not name.endswith("type"):
            assert f"{name.rsplit('.', 1)[-1]}`" in stored


def test_the_schema_for_editors_refuses_what_we_refuse():
    schema = json.loads((ROOT / "options" / "schema.json").read_text())
    data = config.read_yaml(ROOT / "options" / "quickstart.yml").data
    for change in ({"colour": 1}, {"seed": "10"}, {"device": "gpu"}, {"losses": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | change, schema)


def test_resolved_options_read_back_to_the_same(tmp_path):
    options = load_options([QUICK])
    (tmp_path / "resolved.yml").write_text(config.to_yaml(options))
    assert load_options([str(tmp_path / "resolved.yml")]) == options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-3", -3), ("010", 10), ("true", True), ("null", None),
        ("no", "no"), ("off", "off"), ("yes", "yes"), ("2026-11-23", "2026-11-23"), ("1_000", "1_000"), ("'7'", "7"),
        ("1:30", "1:30"), ("~", None), ("[1, 2]", [1, 2]),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(tmp_path, text, value):
    path = tmp_path / "a.yml"
    path.write_text(f"key: {text}\n")
    found = config.read_yaml(path).data["key"]
    assert found == value
    assert type(found) is type(value)


def test_overrides():
    options = load_options(
        [
            QUICK,
            "train.learning_rate=3e-5",
            "model.unet.multipliers=[1,1,2]",
            "losses.1.weight=2",
            "weights=a.safetensors",
        ]
    )
    assert options.train.learning_rate == 3e-5
    assert options.model.unet.multipliers == [1, 1, 2]
    assert options.losses[1].weight == 2
    assert options.weights == "a.safetensors"


def test_weights_by_step_read_back_to_the_same(tmp_path):
    options = load_options([QUICK, "losses.0.weight=[[0, 1], [5, 0.5]]", "losses.2.weight=[[7, 2]]"])
    assert options.losses[0].weight == [[0, 1], [5, 0.5]]
    assert Options.model_validate_json(options.model_dump_json()) == options
    (tmp_path / "resolved.yml").write_text(config.to_yaml(options))
    assert load_options([str(tmp_path / "resolved.yml")]) == options
    assert "number from 0 or list of list of number from 0" in options_table(Options.model_json_schema())


def test_a_whole_section_can_be_replaced():
    options = load_options([QUICK, "model.unet={type: 2Net, width: 8}"])
    assert options.model.unet.type == "2Net"
    assert options.model.unet.multipliers == [1, 2, 4, 8]


MISTAKES = [
    (["train.learning_rat=1"], "train.learning_rat is not an option. Did you mean learning_rate?"),
    (["trian.steps=1"], "trian is not an option. Did you mean train?"),
    (
        ["train.steps=many"],
        r"command line \(train.steps=many\): train.steps: found 'many' \(text\), expected a valid int",
    ),
    (["train.steps='5'"], r"found '5' \(text\), expected a valid integer"),
    (["train.steps=0"], "train.steps: found 0, expected greater than or equal to 1"),
    (["train.steps=true"], r"train.steps: found True \(true/false\), expected a valid integer"),
    (["model.unet.type=1Net-C"], "model.unet.type: found '1Net-C', expected one of: '1Net-A', .* Did you mean 1Net-B?"),
    (["losses.0.type=l3"], "losses.0.type: found 'l3', expected one of"),
    (["losses.7.weight=1"], "there is no section losses.7"),
    (["losses.x=1"], "expected an entry number 0 to 2"),
    (["seed.x=1"], "there is no section seed|not a section"),
    (["losses=[]"], "losses: found a list, expected .*at least 1"),
    (["device=gpu"], r"device: found 'gpu' \(text\)"),
    (["name=../x"], r"name: found '../x'"),
    (["diffusion.sum_scale=.nan"], "diffusion.sum_scale: found '.nan'"),
    (["sampling.steps=1001"], "sampling.steps: found 1001, expected at most diffusion.timesteps"),
    (
        ["diffusion.objective=pred_res"],
        "losses.1.of: found 'noise', but the objective pred_res predicts only: residual",
    ),
    (["losses.0.weight=0", "losses.1.weight=0", "losses.2.weight=0"], "all weights are 0"),
    (
        ["losses.0.weight=[5, 1]"],
        r"losses\.0\.weight\.0: found 5, expected a valid list\n.*weight\.1: found 1, expected",
    ),
    (["losses.0.weight=[]"], r"losses\.0\.weight: found a list, expected at least 1 entries$"),
    (["=3"], "expected section.key=value"),
    (["train.steps=[1"], "not valid YAML"),
    (["other.yml"], "expected at most one"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[m[0][0] for m in MISTAKES])
def test_mistakes_on_the_command_line(words, message):
    with pytest.raises(ConfigError, match=message):
        load_options([QUICK, *words])


def test_mistakes_in_a_file_name_their_line(tmp_path):
    path = tmp_path / "options.yml"
    text = (ROOT / "options" / "quickstart.yml").read_text()
    lines = (
        text.replace("  learning_rate:", "  lerning_rate:").replace("\n  steps: 1 ", "\n  steps: four ").splitlines()
    )
    path.write_text("\n".join(lines))
    where = {key: 1 + next(i for i, line in enumerate(lines) if key in line) for key in ("lerning_rate", "steps: four")}
    with pytest.raises(ConfigError) as error:
        load_options([str(path)])
    message = str(error.value)
    assert (
        f"{path}:{where['lerning_rate']}: train.lerning_rate is not an option. Did you mean learning_rate?" in message
    )
    assert f"{path}:{where['steps: four']}: sampling.steps: found 'four' (text), expected a valid integer" in message


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as error:
        load_options([QUICK, "train.steps=x", "seed=y", "val.nothing=1"])
    assert len(str(error.value).splitlines()) == 3


def test_a_missing_option_names_its_section(tmp_path):
    path = write(tmp_path)
    data = yaml.safe_load(path.read_text())
    del data["train"]["steps"], data["model"]["unet"]["type"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"train\.steps is missing") as error:
        load_options([str(path)])
    assert "model.unet.type is missing, expected one of" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", ":2: name is given twice"),
        ("name: [a\n", "not valid YAML"),
        ("- a\n", "expected sections"),
        ("", "found nothing at the top"),
        ("name: !!python/object:os.system {}\n", "not valid YAML|name: found"),
        ("a: \tb\n\tc: d", "not valid YAML"),
    ],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "broken.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_options([str(path)])


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "TTRD3.yml").write_text("")
    with pytest.raises(ConfigError, match=r"no such options file. Did you mean .*TTRD3\.yml"):
        load_options([str(tmp_path / "TTRD4.yml")])
    with pytest.raises(ConfigError, match="is a folder, expected an options file"):
        load_options([str(tmp_path)])


def test_relative_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_options(["options/quickstart.yml"]).name == "quickstart"


def test_what_takes_keyword_dictionaries_cannot_be_registered():
    class Loose:
        def __init__(self, **options):
            pass

    with pytest.raises(TypeError, match="must name its options"):
        schema_of(Loose)


def test_two_classes_of_one_name_are_refused():
    registry = Registry("thing")
    registry.register("a")(dict)
    with pytest.raises(ValueError, match="two thing classes are called 'a'"):
        registry.register("a")(list)


def test_docstrings_describe_every_option():
    def walk(part, name):
        for key, entry in part.get("properties", {}).items():
            if key != "type" and "$ref" not in str(entry):
                assert entry.get("description"), f"{name}.{key} has no description"

    schema = Options.model_json_schema()
    for name, part in schema["$defs"].items():
        walk(part, name)
