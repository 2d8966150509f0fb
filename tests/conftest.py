"""Shared set-up of the tests: soak tests only when asked for; one thread, as workers run; places for stores."""

from core.numerics import pin_environment

pin_environment()  # before torch is imported

import secrets  # noqa: E402 - after the environment is set
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.object_store import object_store  # noqa: E402

# No claim is about time, so a busy machine makes none false. Each run draws the same cases, so that a change does not
# fail by what it did not touch; `pytest --hypothesis-profile drawn` looks at others.
settings.register_profile("drawn", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("drawn"), derandomize=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-soak", action="store_true", help="run the long fault and scale tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Ray's tests, which are long and mostly wait, come first: at the end other processes would wait for them.
    items.sort(key=lambda item: not item.path.name.startswith("test_ray_"))
    if config.getoption("--run-soak"):
        return
    skip = pytest.mark.skip(reason="soak: run by `make soak`")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def object_server() -> Iterator[dict[str, str]]:
    """An S3-compatible server: the environment by which its bucket ``results`` is reached."""
    with object_store() as reached:
        yield reached


@pytest.fixture
def bucket(object_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of a place in a bucket in which nothing lies yet; copies go to the test's own folder."""
    for name, value in {**object_server, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return f"s3://results/{secrets.token_hex(8)}"


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a store that is not there yet: in a directory, and in a bucket."""
    return str(tmp_path / "store") if request.param == "directory" else request.getfixturevalue("bucket")
