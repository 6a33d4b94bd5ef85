"""The server of processes to be killed, and an undisturbed run of each scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from torture.harness import Run, Server
from torture.scenarios import SCENARIOS


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def straight(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The undisturbed run of a scenario, made once."""
    made: dict[str, Run] = {}

    def make(scenario: str) -> Run:
        if scenario not in made:
            run = Run(server, SCENARIOS[scenario], tmp_path_factory.mktemp("straight") / "run")
            ended = run.start()
            assert ended.code == 0, ended
            made[scenario] = replace(run, lasts_s=ended.seconds)
        return made[scenario]

    return make
