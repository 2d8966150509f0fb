"""What is recorded about where numbers were made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from core.numerics import numerics_class, provenance


def test_the_class_names_instruction_set_build_and_engine() -> None:
    kind, build, engine = numerics_class("cpu").split("/")
    mode = os.environ.get("MKL_CBWR", "")
    assert kind == f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}" + (f"-mkl_{mode.lower()}" if mode else "")
    assert build == f"torch-{torch.__version__}"
    assert engine == "eager"
    assert numerics_class("cpu", "compiled").endswith("/compiled")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9, 10, 9), (9, 9, 10), (17, 9, 5)])
def test_a_product_has_its_bits_wherever_it_lies_in_a_batch(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Without MKL's reproducible mode an AMD EPYC gave 8 or 12 of these 16 other bits than alone."""
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(16, *s, generator=generator, dtype=dtype) for s in ((rows, inner), (inner, columns)))
    whole = torch.bmm(a, b)
    for place in range(16):
        one = slice(place, place + 1)
        assert torch.equal(torch.bmm(a[one].clone(), b[one].clone()), whole[one]), place


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
