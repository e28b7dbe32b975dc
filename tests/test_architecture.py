"""The house rules of the code, read from the code itself: direction of imports, sizes, environment, pinned packages."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "codes" / "ttrd3"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))

BASE = {"errors", "environment", "files", "paths", "registry", "config", "pretrained", "hardware"}
WORKERS = {"networks", "data", "losses", "metrics"}
# What the modules of each part may import of ttrd3, besides their own part.
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "diffusion": {"errors"},  # mathematics: of use without the rest
    **dict.fromkeys(WORKERS, BASE),  # never each other, nor the diffusion process
    "released": BASE | {"networks", "diffusion"},
    "reports": BASE | WORKERS,
    "inference": BASE | WORKERS | {"diffusion", "released", "reports"},
    "engine": BASE | WORKERS | {"diffusion", "released", "reports", "inference"},
    "commands": BASE | WORKERS | {"diffusion", "released", "reports", "inference", "engine"},
    "__main__": {"errors", "commands"},
    "__init__": {"inference"},  # `from ttrd3 import Upscaler`, on demand
}

# Import name -> name on PyPI, where they differ.
ON_PYPI = {
    "faiss": "faiss-cpu",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "torch_fidelity": "torch-fidelity",
    "DISTS_pytorch": "DISTS-pytorch",
}
# Pinned without an import statement of their own: what needs them.
NEEDED_BY = {"tensorboard": "torch.utils.tensorboard", "onnxscript": "torch.onnx"}
NEEDED_BY_TESTS = {"ruff": "-m ruff check", "pytest-xdist": "-m pytest -n auto"}  # by this text in scripts/test.sh


def part(path: Path) -> str:
    """ "networks" for networks/unet.py, "errors" for errors.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, also within functions: `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of each import of ttrd3."""
    for line, name in imports(path):
        words = name.split(".")
        if words[0] == "ttrd3":
            # `from ttrd3 import __version__` gives what __init__.py defines, not a part
            is_part = (PACKAGE / words[1]).is_dir() or (PACKAGE / f"{words[1]}.py").is_file()
            yield line, words[1] if is_part else "__init__"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_imports_point_one_way(path: Path):
    own = part(path)
    assert own in MAY_IMPORT, f"{own} is new: say in MAY_IMPORT what it may import, and in architecture terms why"
    allowed = MAY_IMPORT[own] | {own, "__init__"}
    wrong = [
        f"line {line}: {own} must not import {other}" for line, other in imported_parts(path) if other not in allowed
    ]
    assert not wrong


def test_the_rule_has_no_cycle_between_parts():
    for own, others in MAY_IMPORT.items():
        for other in others - BASE:
            assert own not in MAY_IMPORT[other], f"{own} and {other} may import each other"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_only_the_distributed_setup_reads_the_environment(path: Path):
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    names |= {name.rpartition(".")[2] for _, name in imports(path)}
    reads = names & {"environ", "environb", "getenv", "getenvb", "putenv"}
    assert not reads or named(path) == "codes/ttrd3/engine/distributed.py"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_only_commands_and_reports_print(path: Path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id in {"print", "input"}]
    assert not prints or part(path) in {"commands", "reports"}, f"prints in lines {prints}: use logging"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_files_hold_one_idea(path: Path):
    assert len(path.read_text().splitlines()) <= 320


def test_nothing_names_a_path_of_somebodys_machine():
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    suffixes = {".py", ".sh", ".yml", ".yaml", ".toml", ".md", ".txt", ".json", ".html", ""}
    # A home or a mount at the start of a path; the letter class before it keeps URLs and relative paths out.
    personal = re.compile(r"(?<![\w.\-/}$*])(?:/(?:home|root|work|opt|mnt|media|Users|data\d?)|[A-Z]:\\\w+)/[\w.]")
    wrong = []
    for name in files:
        path = ROOT / name
        if path.suffix in suffixes and path.is_file():
            text = path.read_text(encoding="utf-8")
            wrong += [f"{name}: {text[hit.start() : hit.end() + 20]!r}" for hit in personal.finditer(text)]
    assert not wrong


def third_party(paths: list[Path]) -> set[str]:
    """Dotted names of the imports that are neither the standard library's nor found in this repository."""
    ours = {"ttrd3"} | {path.stem for path in TESTS + SCRIPTS} | {path.parent.name for path in TESTS + SCRIPTS}
    names = {name for path in paths for _, name in imports(path)}
    return {name for name in names if name.split(".")[0] not in ours | set(sys.stdlib_module_names)}


def distributions(imported: set[str]) -> set[str]:
    tops = {name.split(".")[0] for name in imported}
    return {ON_PYPI.get(top, top) for top in tops}


def pins(file: str) -> set[str]:
    """Names pinned in a requirement file, each of which must give a reason."""
    names = set()
    for line in (ROOT / file).read_text().splitlines():
        if line and not line.startswith(("#", "-e ")):
            pin = re.fullmatch(r"([\w-]+)==[\w.]+ +# .{10,}", line)
            assert pin, f"{file}: {line!r} is not `name==version  # reason`"
            names.add(pin.group(1))
    return names


def test_what_the_package_imports_is_pinned_and_what_is_pinned_is_imported():
    imported = third_party(SOURCES)
    used = distributions(imported)
    for name, module in NEEDED_BY.items():
        if any(f"{found}.".startswith(f"{module}.") for found in imported):
            used.add(name)
    assert used == pins("requirements.txt")


def test_what_tests_and_scripts_import_is_pinned_and_what_is_pinned_is_imported():
    used = distributions(third_party(TESTS + SCRIPTS)) - pins("requirements.txt")
    for name, text in NEEDED_BY_TESTS.items():
        assert text in (ROOT / "scripts" / "test.sh").read_text()
        used.add(name)
    assert used == pins("requirements-dev.txt")
