"""What is recorded about where numbers were made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch

from core.numerics import numerics_class, provenance


def test_the_class_names_instruction_set_build_and_engine() -> None:
    kind, build, engine = numerics_class("cpu").split("/")
    assert kind == f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}"
    assert build == f"torch-{torch.__version__}"
    assert engine == "eager"
    assert numerics_class("cpu", "compiled").endswith("/compiled")


def test_provenance_is_json_and_says_versions_commit_and_host() -> None:
    facts = provenance("cpu")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["torch"] == torch.__version__
    assert facts["cores"] == os.cpu_count()
    assert facts["commit"] is None or len(facts["commit"].removesuffix("+changes")) == 40


def test_pinning_reaches_torch_and_importing_the_module_does_not() -> None:
    code = (
        "import sys, core.numerics as n; assert 'torch' not in sys.modules; n.pin_threads();"
        "import os, torch; print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["1", "1", "1"]
