"""A fault run of a minute: `make faults` with a handful of kills, so that it is known to work, and so are the promises
it checks.
"""

from __future__ import annotations

import shutil

import pytest

from postrider.local.home import workspace
from tests.faults.run import Plan, judged, play
from tests.support.parts import make_folder

pytestmark = pytest.mark.e2e


async def test_a_short_fault_run_keeps_every_promise() -> None:
    base = workspace() / ".local"
    home = make_folder(base)
    plan = Plan(seed=7, people=60, kills=6, shoppers=20, campaigns=("K2", "K3"))
    folder = await play(plan, home, base / "kafka" / "libs")
    verdict = judged(folder, quiet=True)
    assert verdict.returncode == 0, f"{folder}: {verdict.stdout}{verdict.stderr}"
    assert "every promise held" in verdict.stdout
    shutil.rmtree(home)
