"""What tests of commands share."""

import json
from types import SimpleNamespace

import pytest

from sweeps.cli import execute


@pytest.fixture
def call(capsys):
    """Runs a command line in this process: exit code, stdout, stderr, and stdout as JSON."""

    def run(*arguments):
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=lambda: json.loads(out))

    return run
