"""The shape of the project: which module may import which, and what a script may do."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.train_fixtures import write_dataset, write_model

ROOT = Path(__file__).resolve().parents[1]

# Data flows down this list; stages of one row know nothing of each other.
ROWS = (
    {"data_prep"},
    {"input_pipeline"},
    {"model_definition"},
    {"train", "eval", "predict"},
)
ROW_OF = {stage: number for number, row in enumerate(ROWS) for stage in row}
SHARED_OF_DATA_PREP = {
    *("schema", "tfrecord", "damage", "command_line", "examples", "non_digits", "staging"),
}

# Slow to import, so only the functions of a script that need them may do it.
HEAVY = {
    "ai_edge_litert",
    "fastapi",
    "h5py",
    "keras",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "PIL",
    "requests",
    "scipy",
    "sqlalchemy",
    "tensorboard",
    "tensorflow",
    "tf2onnx",
    "tf_slim",
    "urllib3",
}


@dataclass(frozen=True)
class Module:
    """A Python file of a stage: its dotted name, and its syntax tree."""

    name: str
    tree: ast.Module

    @property
    def stage(self) -> str:
        return self.name.partition(".")[0]

    @functools.cached_property
    def is_script(self) -> bool:
        return any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "command_line.run"
            for node in ast.walk(self.tree)
        )

    def imports(self, *, at_import_time: bool = False) -> set[str]:
        """The dotted names that it imports, anywhere or only while it is being imported."""
        names = set()
        for node in _outside_functions(self.tree) if at_import_time else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_function and not is_for_types:
            yield child
            yield from _outside_functions(child)


def load_modules(root: Path) -> dict[str, Module]:
    paths = [path for stage in ROW_OF for path in sorted((root / stage).rglob("*.py"))]
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    return {name: Module(name, tree) for name, tree in zip(names, trees, strict=True)}


def find_module(imported: str, modules: dict[str, Module]) -> str | None:
    """The project's module that `imported`, a module or a name within one, belongs to."""
    while imported:
        if imported in modules or imported in ROW_OF:
            return imported
        imported = imported.rpartition(".")[0]
    return None


def find_forbidden_imports(modules: dict[str, Module]) -> list[str]:
    found = []
    for module in modules.values():
        for imported in sorted(module.imports()):
            target = find_module(imported, modules)
            if target is None:
                continue
            stage, _, rest = target.partition(".")
            forbidden = target in modules and modules[target].is_script
            if stage == "data_prep" != module.stage:
                forbidden |= rest not in SHARED_OF_DATA_PREP
            elif stage != module.stage:
                forbidden |= ROW_OF[stage] >= ROW_OF[module.stage]
            if forbidden:
                found.append(f"{module.name} imports {target}")
    return found


def find_heavy_imports(modules: dict[str, Module]) -> list[str]:
    """Heavy packages that come with a script, along the imports that lead to them."""
    found = []
    for script in (module for module in modules.values() if module.is_script):
        waiting: list[tuple[str, ...]] = [(script.name,)]
        seen = {script.name}
        while waiting:
            chain = waiting.pop()
            for imported in sorted(modules[chain[-1]].imports(at_import_time=True)):
                if imported.partition(".")[0] in HEAVY:
                    found.append(" imports ".join((*chain, imported)))
                target = find_module(imported, modules)
                if target in modules and target not in seen:
                    seen.add(target)
                    waiting.append((*chain, target))
    return found


def find_stray_flags(modules: dict[str, Module]) -> list[str]:
    """Flags are defined in a script's `define_flags` and read in its `main`, nowhere else.

    Those of training, which several scripts have, are defined in a module of their own.
    """
    found = []
    for module in modules.values():
        functions = {
            node.name: set(ast.walk(node))
            for node in module.tree.body
            if isinstance(node, ast.FunctionDef) and module.is_script
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and "FLAGS" in {a.name for a in node.names}:
                found.append(f"{module.name}:{node.lineno} imports FLAGS")
            if not isinstance(node, ast.Attribute):
                continue
            if node.attr == "FLAGS" and node not in functions.get("main", set()):
                found.append(f"{module.name}:{node.lineno} reads FLAGS")
            is_definition = node.attr.startswith("DEFINE_")
            if module.name == "train.training_flags":
                continue
            if is_definition and node not in functions.get("define_flags", set()):
                found.append(f"{module.name}:{node.lineno} calls {node.attr}")
    return found


MODULES = load_modules(ROOT)
SCRIPTS = sorted(module.name for module in MODULES.values() if module.is_script)


def write_modules(root: Path, files: dict[str, str]) -> dict[str, Module]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_modules(root)


def test_data_flows_one_way():
    assert find_forbidden_imports(MODULES) == []


@pytest.mark.parametrize(
    ("path", "text", "target"),
    [
        ("data_prep/a.py", "import input_pipeline.records", "input_pipeline.records"),  # points up
        ("input_pipeline/a.py", "from data_prep import idx", "data_prep.idx"),  # not shared
        ("input_pipeline/a.py", "from data_prep.idx import read", "data_prep.idx"),
        ("input_pipeline/a.py", "def f():\n  import data_prep", "data_prep"),  # within a function
        ("eval/a.py", "from predict import digits", "predict.digits"),  # side by side
        ("eval/a.py", "from train import train_lenet", "train.train_lenet"),
        ("train/a.py", "from train import train_lenet", "train.train_lenet"),  # a script
    ],
)
def test_forbidden_import_is_found(tmp_path, path, text, target):
    files = {
        "data_prep/idx.py": "",
        "data_prep/schema.py": "",
        "input_pipeline/records.py": "from data_prep.schema import Manifest",  # allowed
        "predict/digits.py": "import numpy",
        "train/train_lenet.py": "command_line.run(main, define_flags)",
    }
    modules = write_modules(tmp_path, {**files, path: text})
    module = path.removesuffix(".py").replace("/", ".")
    assert find_forbidden_imports(modules) == [f"{module} imports {target}"]


def test_no_relative_imports():
    relative = [
        f"{module.name}:{node.lineno}"
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_scripts_import_nothing_heavy_before_main():
    assert find_heavy_imports(MODULES) == []


def test_heavy_import_is_found_with_the_way_to_it(tmp_path):
    files = {
        "eval/evaluate.py": "from eval import metrics\ncommand_line.run(main, define_flags)",
        "eval/metrics.py": "def f():\n  import scipy\nclass C:\n  import input_pipeline.records",
        "input_pipeline/records.py": "if TYPE_CHECKING:\n  import PIL\nimport tensorflow as tf",
    }
    assert find_heavy_imports(write_modules(tmp_path, files)) == [
        "eval.evaluate imports eval.metrics imports input_pipeline.records imports tensorflow"
    ]


def test_flags_stay_in_scripts():
    stray = find_stray_flags(MODULES)
    # It parses them for every script, and reads none.
    assert {line.partition(":")[0] for line in stray} == {"data_prep.command_line"}


def test_stray_flags_are_found(tmp_path):
    script = (
        "def define_flags():\n  flags.DEFINE_bool('json', False, '')\n"
        "def main(argv):\n  print(flags.FLAGS.json)\n"
        "def helper():\n  print(flags.FLAGS.json)\n"
        "flags.DEFINE_bool('text', False, '')\n"
        "command_line.run(main, define_flags)\n"
    )
    library = "from absl.flags import FLAGS\ndef main():\n  flags.FLAGS"
    modules = write_modules(tmp_path, {"eval/evaluate.py": script, "eval/metrics.py": library})
    assert sorted(find_stray_flags(modules)) == [
        "eval.evaluate:6 reads FLAGS",
        "eval.evaluate:7 calls DEFINE_bool",
        "eval.metrics:1 imports FLAGS",
        "eval.metrics:3 reads FLAGS",
    ]


def test_no_file_is_a_drawer_for_everything():
    folders = [*ROW_OF, "tests", "benchmarks"]
    assert [path for folder in folders for path in (ROOT / folder).rglob("*util*.py")] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_the_flags_and_imports_nothing_heavy(script, tmp_path):
    path = ROOT / Path(*script.split(".")).with_suffix(".py")
    result = subprocess.run(
        [sys.executable, "-X", "importtime", path, "--help"],
        cwd=tmp_path,  # as good as any other
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"\n{path}:\n" in result.stdout  # absl's heading above the script's own flags
    assert "Traceback" not in result.stderr
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "absl.flags" in imported  # the list was understood
    assert imported.isdisjoint(HEAVY)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Trains with the real script, saying what it imports; returns the run folder and that."""
    folder = tmp_path_factory.mktemp("imports")
    write_dataset(folder / "data")
    model = write_model(folder)
    flags = ["--max_steps=2", "--batch_size=8", f"--model={model}", f"--logdir={folder / 'run'}"]
    return folder / "run", run_and_list(
        "train/train_lenet.py", f"--data_dir={folder / 'data'}", *flags
    )


# What is imported while TensorFlow is, `-X importtime` cannot tell: stderr is kept aside meanwhile.
LISTING = """
import atexit, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_and_list(script: str, *arguments: str) -> set[str]:
    """Runs a script to its end; returns the packages that it imported."""
    command = [sys.executable, "-c", LISTING, str(ROOT / script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stderr.splitlines()[-1].split()}


OF_OTHER_SCRIPTS = {"fastapi", "h5py", "keras", "onnx", "onnxruntime", "optuna", "scipy", "tf2onnx"}


def test_training_imports_nothing_that_it_does_not_use(finished_run):
    _, imported = finished_run
    assert imported >= {"tensorflow", "tf_slim", "numpy"}  # The list was understood.
    assert imported.isdisjoint({*OF_OTHER_SCRIPTS, "ai_edge_litert", "matplotlib"})


def test_evaluation_imports_nothing_that_it_does_not_use(finished_run):
    logdir, _ = finished_run
    imported = run_and_list("eval/evaluate.py", f"--logdir={logdir}")
    assert imported >= {"tensorflow", "matplotlib"}
    assert imported.isdisjoint({*OF_OTHER_SCRIPTS, "ai_edge_litert", "train"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_prepare_themselves_before_they_import_anything_of_ours(script):
    source = (ROOT / f"{script.replace('.', '/')}.py").read_text(encoding="utf-8")
    head = (
        'if __name__ == "__main__":  # The project\'s root instead of this folder on the module '
        "path.\n"
        "    sys.path[0] = str(Path(__file__).resolve().parents[1])\n"
        "    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it."
    )
    before, _, _ = source.partition(head)
    assert before != source
    assert not re.search(r"^(from|import) (absl|numpy|data_prep)", before, re.MULTILINE)
