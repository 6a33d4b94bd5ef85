"""The server of processes to be killed, and an undisturbed run of each scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from torture.harness import Run, Server
from torture.scenarios import SCENARIOS
from torture.settings import LONG


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def straight(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The undisturbed run of a scenario, made once."""
    runs: dict[str, Run] = {}

    def make(scenario: str) -> Run:
        if scenario not in runs:
            run = Run(server, SCENARIOS[scenario], tmp_path_factory.mktemp("straight") / "run")
            ended = run.start()
            assert ended.code == 0, ended
            runs[scenario] = replace(run, lasts_s=ended.seconds)
        return runs[scenario]

    return make


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of the long form."""
    if LONG:
        reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
        counted = Counter[str]()
        for report in reports:
            counted.update(dict(report.user_properties))
        lines = [
            f"killed {counted['kills']} times; all {counted['identical']} runs ended identical",
            f"killed one rank or all {counted['rank kills']} times; {counted['identical after them']} runs "
            f"ended identical, {counted['close']} on other numbers of ranks equal to 1e-5",
            f"flipped {counted['flips']} bits of checkpoints; all were noticed",
        ]
        if failed := len(terminalreporter.getreports("failed")):
            lines.append(f"not counted: what the {failed} tests did that failed")
        for line in lines:
            terminalreporter.write_line(line)
