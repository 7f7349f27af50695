"""The set-up: pinned requirements, their lock, the Makefile and .ci/run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands in for every Python that the Makefile calls: .venv gets a copy of it, which writes down
# what it is asked for, and whose pip fails while there is a file named `pip-fails`.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
  "-c "*) echo VERSION;;
  "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python";;
  "-m pip install "*) test ! -e pip-fails;;
esac
"""


def read_pins(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.partition("#")[0].strip() for line in lines if re.match(r"[a-zA-Z]", line)}


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # What an outer make passes on to those that its recipes start is none of their business.
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", "MNIST_DIR"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        command,
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile, and Pythons of two versions that only pretend."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    for name, version in (("python-old", "3.9"), ("python-new", "3.14"), ("python-fit", "3.12")):
        path = tmp_path / name
        path.write_text(FAKE_PYTHON.replace("VERSION", version), encoding="utf-8")
        path.chmod(0o755)
    return tmp_path


def count_installations(folder: Path) -> int:
    return (folder / "calls").read_text(encoding="utf-8").count("-m pip install")


def test_every_requirement_is_pinned_and_explained():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.match(r"[a-zA-Z]", line):
                assert re.match(
                    r"[\w-]+==[\w.]+(; python_version >= \"3.11\")?  # \w|"
                    r"[\w-]+==[\w.]+; python_version < \"3.11\"$",
                    line,
                ), line


def test_lock_has_every_pin_and_a_hash_for_every_package():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.findall(
        r"^([\w-]+==[\w.]+)[^\\\n]*\\\n    --hash=sha256:[0-9a-f]{64}\b", text, re.M
    )
    assert len(packages) == len(read_pins(ROOT / "requirements.lock"))
    pins = read_pins(ROOT / "requirements.txt") | read_pins(ROOT / "requirements-dev.txt")
    assert {pin.partition(";")[0] for pin in pins} <= set(packages)


def test_lock_names_no_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert re.findall(r".*(?:://|--index|--find-links| /).*", text) == []


def test_make_without_a_target_lists_the_targets(checkout):
    listed = run(["make"], checkout).stdout
    for target in ("venv", "demo", "test", "lint", "lock", "clean"):
        assert f"\nmake {target} " in f"\n{listed}"


def test_make_venv_takes_the_first_python_that_fits(checkout):
    pythons = "./python-missing ./python-old ./python-new ./python-fit ./python-old"
    result = run(["make", "venv", f"PYTHON={pythons}"], checkout)
    assert result.returncode == 0, result.stderr
    assert "into .venv with Python 3.12" in result.stdout
    assert "python-missing" not in result.stderr
    calls = (checkout / "calls").read_text(encoding="utf-8").splitlines()
    assert calls[-2] == "-m venv --clear .venv"
    assert calls[-1].endswith("--require-hashes --compile -r requirements.lock")


def test_make_venv_refuses_other_pythons_in_words(checkout):
    pythons = "PYTHON=./python-missing ./python-old ./python-new"
    result = run(["make", "venv", pythons], checkout)
    assert result.returncode == 2
    assert (
        "make: Python 3.10, 3.11, 3.12 or 3.13 is needed, TensorFlow has no other; found: "
        "./python-missing=missing ./python-old=3.9 ./python-new=3.14. Install one, or name it: "
        "make venv PYTHON=/path/to/python3.12\n"
    ) in result.stderr
    assert not (checkout / ".venv").exists()


def test_make_venv_is_done_once_and_again_when_the_lock_changes(checkout):
    command = ["make", "venv", "PYTHON=./python-fit"]
    for expected in (1, 1):
        assert run(command, checkout).returncode == 0
        assert count_installations(checkout) == expected
    stamp = (checkout / ".venv/installed").stat().st_mtime
    os.utime(checkout / "requirements.lock", (stamp + 2, stamp + 2))
    assert run(command, checkout).returncode == 0
    assert count_installations(checkout) == 2


def test_installation_that_failed_is_done_again_from_scratch(checkout):
    command = ["make", "venv", "PYTHON=./python-fit"]
    (checkout / "pip-fails").touch()
    assert run(command, checkout).returncode == 2
    (checkout / ".venv/leftover").touch()
    (checkout / "pip-fails").unlink()
    assert run(command, checkout).returncode == 0
    assert count_installations(checkout) == 2
    assert not (checkout / ".venv/leftover").exists()


def test_make_demo_passes_the_folder_on(checkout):
    command = ["make", "demo", "PYTHON=./python-fit"]
    for option, expected in (
        ([], "predict/demo.py"),
        (["FROM_DIR=/my  files"], "predict/demo.py --from_dir=/my  files"),
    ):
        assert run([*command, *option], checkout).returncode == 0
        calls = (checkout / "calls").read_text(encoding="utf-8").splitlines()
        assert calls[-1] == expected


def test_make_clean_keeps_data_and_runs(checkout):
    for folder in (".venv", "data/__pycache__", "data/mnist", "runs/lenet", ".mypy_cache"):
        (checkout / folder).mkdir(parents=True)
    assert run(["make", "clean"], checkout).returncode == 0
    folders = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_dir()}
    assert folders == {"data", "data/mnist", "runs", "runs/lenet"}


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_ci_finds_mnist_beside_the_checkout(tmp_path, given):
    shutil.copytree(ROOT / ".ci", tmp_path / "checkout/.ci")
    makefile = "lint test:\n\t@echo $@ $${MNIST_DIR:-unset}\n"
    (tmp_path / "checkout/Makefile").write_text(makefile, encoding="utf-8")
    command = [str(tmp_path / "checkout/.ci/run")]
    variables = {"PATH": make_path(tmp_path, chromium="", chromedriver="")}
    if given:
        variables["MNIST_DIR"] = given
    result = run(command, tmp_path, **variables)
    assert result.stdout == f"lint {given or 'unset'}\ntest {given or 'unset'}\n", result.stderr
    (tmp_path / "shared/mnist").mkdir(parents=True)
    expected = given or (tmp_path / "shared/mnist").resolve()
    assert run(command, tmp_path, **variables).stdout == f"lint {expected}\ntest {expected}\n"


def make_path(folder: Path, **commands: str) -> str:
    """A PATH with the few programs that .ci/run needs, and with commands of these texts."""
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    for name in ("bash", "dirname", "echo", "env", "make", "sh"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"there is no {name}")
        (bin_dir / name).symlink_to(found)
    for name, text in commands.items():
        path = bin_dir / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    return str(bin_dir)


@pytest.mark.parametrize(
    ("commands", "expected_calls", "is_refused"),
    [
        ({"chromium": "", "chromedriver": "", "id": "echo 0"}, [], False),  # It is there.
        ({"chromium": "", "id": "echo 0"}, ["update", "install"], False),  # but not its driver
        ({"id": "echo 0"}, ["update", "install"], False),
        ({"id": "echo 1000", "sudo": 'shift; "$@"'}, ["update", "install"], False),
        ({"id": "echo 1000", "sudo": "exit 1"}, [], True),  # sudo wants a password
        ({"id": "echo 1000"}, [], True),
        ({"id": "echo 0", "apt_get": "exit 100"}, [], True),
    ],
)
def test_ci_installs_chromium_where_it_can(tmp_path, commands, expected_calls, is_refused):
    shutil.copytree(ROOT / ".ci", tmp_path / "checkout/.ci")
    makefile = "lint test:\n\t@echo $@\n"
    (tmp_path / "checkout/Makefile").write_text(makefile, encoding="utf-8")
    calls = tmp_path / "calls"
    calls.touch()
    apt_get = f'echo "apt-get $*"; echo $1 >> {calls}'
    path = make_path(tmp_path, **{"apt_get": apt_get, **commands})
    result = run([str(tmp_path / "checkout/.ci/run")], tmp_path, PATH=path)
    assert (result.returncode, result.stdout) == (0, "lint\ntest\n"), result.stderr
    assert calls.read_text(encoding="utf-8").split() == expected_calls
    assert ("Chromium cannot be installed here" in result.stderr) == is_refused
