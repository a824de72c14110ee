"""What `make test` says of tests that it runs side by side is what one process would say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = "def test_one(): pass\ndef test_two(): pass\n"
BAD = "def test_bad():\n    assert 42 == 41\n"
NOT_PUT_AWAY = """
import pytest
@pytest.fixture(scope="session")
def kept():
    yield
    raise OSError("not put away")
def test_fine(kept): pass
"""
UNCLOSED = """
import pytest
@pytest.fixture(scope="session")
def kept():
    yield
    opened = [open(__file__)]
    opened.append(opened)
def test_fine(kept): pass
"""
DEAD = "import os\ndef test_dies(): os._exit(3)\n"


def lanes(folder: Path, *more: str, check: str = "true", **files: str) -> tuple[int, list[str]]:
    """The exit code and what was printed, for these files of tests."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", "utf-8")
    for name, source in files.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, "utf-8")
    command = [sys.executable, "-m", "tests.lanes", "--lanes", "2", "--check", check, "--", str(folder), *more]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert not ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def test_every_file_is_run_once(tmp_path: Path) -> None:
    names = [f"{folder}{number}" for folder in ("test_n", "unit/test_u", "unit/deep/test_d") for number in range(3)]
    code, lines = lanes(tmp_path, **dict.fromkeys(names, GOOD))
    assert (code, lines[-1]) == (0, "18 passed, 0 failed")
    run = [line.split()[2] for line in lines if ": 2 passed" in line]
    assert sorted(run) == sorted(f"{name}.py:" for name in names)


def test_failures_are_shown_and_counted(tmp_path: Path) -> None:
    code, lines = lanes(tmp_path, check="ls /nothing/of/this/name", test_good=GOOD, test_bad=BAD)
    assert (code, lines[-1]) == (1, "2 passed, 2 failed")
    assert "E       assert 42 == 41" in lines
    assert any("No such file" in line for line in lines)
    told = [line for line in lines[-4:] if line.startswith("FAILED ")]
    assert sorted(told) == ["FAILED ls /nothing/of/this/name (ended with 2)", "FAILED test_bad.py::test_bad (call)"]


@pytest.mark.parametrize(
    ("source", "totals"),
    [
        (NOT_PUT_AWAY, "3 passed, 1 failed"),
        (UNCLOSED, "3 passed, 1 failed"),
        (DEAD, "2 passed, 1 failed"),
        ("import nothing_of_this_name\n", "0 passed, 1 failed"),
    ],
)
def test_an_error_outside_a_test_is_one_failure(tmp_path: Path, source: str, totals: str) -> None:
    code, lines = lanes(tmp_path, test_good=GOOD, test_odd=source)
    assert (code, lines[-1]) == (1, totals), lines


def test_the_first_failure_stops_all_lanes_when_asked_for(tmp_path: Path) -> None:
    code, lines = lanes(tmp_path, "-x", test_bad=BAD, test_worse=BAD)
    assert code == 1
    assert lines[-1] in ("0 passed, 1 failed", "0 passed, 2 failed"), "the other may have failed by then"


def test_no_test_is_no_success(tmp_path: Path) -> None:
    code, lines = lanes(tmp_path, "-k", "of_no_such_name", test_good=GOOD)
    assert (code, lines[-1]) == (5, "0 passed, 0 failed")
