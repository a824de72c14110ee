"""A pytest plugin for make: one last line of totals, `N passed, N failed`. Errors outside a test count as failed."""

import pytest
from _pytest.terminal import TerminalReporter


def pytest_unconfigure(config: pytest.Config) -> None:
    """Runs after pytest's own summary."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, TerminalReporter):
        counts = {kind: len(reporter.stats.get(kind, [])) for kind in ("passed", "failed", "error")}
        reporter.write_line(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed")
