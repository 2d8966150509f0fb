"""The state of one trial after so many updates, and its file: safetensors with JSON metadata, no pickle.

A state is one trial's, never a pack's: whatever pack it was trained in, it goes on in any other with the same bits. The
number of updates, which AdamW's bias correction needs, is the state's own step. Files are a cache, which training can
always fill again: they are published by rename, without fsync, and carry a digest of their tensors, so that a torn or
damaged one is known as such and counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.errors import StoreError

FORMAT = 1
"""Version of the file's layout."""


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """Weights and optimiser state of one trial after `step` updates; CPU tensors without a trial axis."""

    lineage: str
    step: int
    parameters: Mapping[str, Tensor]
    """By name; see `core.architecture.parameter_shapes`."""
    optimizer: Mapping[str, Tensor]
    """``<slot>/<parameter>``; see `core.optim.SLOTS`."""


def save(state: TrialState, path: Path) -> None:
    """Writes a state, replacing what is at `path`; readers see the whole file or none.

    Raises:
        StoreError: the file cannot be written.
    """
    tensors = {f"parameters/{name}": tensor for name, tensor in state.parameters.items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in state.optimizer.items()}
    meta = {"format": FORMAT, "lineage": state.lineage, "step": state.step, "digest": _digest(tensors)}
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        save_file(tensors, temporary, metadata={"loopsweep": json.dumps(meta, sort_keys=True)})
        Path(temporary).replace(path)
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(
            f"checkpoint {path} cannot be written: {error}; free space or choose another --store"
        ) from error


def load(path: Path) -> TrialState:
    """Reads a state and checks it against its digest.

    Raises:
        StoreError: the file is missing, torn or damaged; delete it, the state is trained again.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["loopsweep"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']!r}, this version reads {FORMAT}")
        if meta["digest"] != _digest(tensors):
            raise ValueError("its tensors do not match its digest")
        lineage, step = str(meta["lineage"]), int(meta["step"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StoreError(f"checkpoint {path} is missing or damaged ({reason}); delete it to train it again") from error

    def group(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    return TrialState(lineage=lineage, step=step, parameters=group("parameters/"), optimizer=group("optimizer/"))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
