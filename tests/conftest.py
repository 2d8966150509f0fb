"""Shared set-up of the tests: soak tests only when asked for; one thread, as workers run."""

from core.numerics import pin_environment

pin_environment()  # before torch is imported

import pytest  # noqa: E402 - after the environment is set


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-soak", action="store_true", help="run the long fault and scale tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-soak"):
        return
    skip = pytest.mark.skip(reason="soak: run by `make soak`")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)
