"""What all reference cases share: the stored numbers, and the recipe that makes weights and inputs from a seed."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semask.checkpoints.names import Source, official_names
from semask.model import SeMask

LIMIT, MASK_LIMIT = 5e-5, 3e-4  # of the standard deviation: per-pixel and mask decoders, as the goldens suggest
TIES = 1e-3  # share of label pixels that may differ where two classes score alike


@dataclass
class Case:
    """One golden: its settings, its reference tensors, and the differences found so far."""

    path: Path
    spec: dict[str, Any]
    reference: dict[str, np.ndarray]
    differences: dict[str, float] = field(default_factory=dict)
    remark: str = ""
    """How the case was compared, if not as asked for."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def limit(self) -> float:
        return MASK_LIMIT if "mask_former" in self.spec else LIMIT

    @property
    def worst(self) -> tuple[float, str]:
        return max((value, name) for name, value in self.differences.items())

    def compare(self, name: str, value: Tensor) -> None:
        """Note the difference of a full tensor from its stored, possibly strided, reference."""
        facts = self.spec["tensors"][name]
        assert list(value.shape) == facts["shape"], f"{name}: {list(value.shape)}, the golden has {facts['shape']}"
        reference = torch.from_numpy(self.reference[name].astype(np.float64)).flatten()
        ours = value.detach().double().flatten()[:: facts["stride"]]
        assert len(ours) == len(reference), f"{name}: {len(ours)} values, the golden has {len(reference)}"
        if name in ("pred", "ms_pred"):
            share = (ours != reference).double().mean().item()
            self.differences[name] = 0.0 if share <= TIES else share
        else:
            self.note(name, (ours - reference).abs().max().item() / facts["std"])

    def note(self, name: str, difference: float) -> None:
        """Note a relative difference; what is no number is the worst of all."""
        self.differences[name] = difference if difference == difference else float("inf")


def rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def weight(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Value of one tensor of the published state dict by recipe R1; None: as constructed."""
    n = rng(seed, key).standard_normal(shape)
    last = key.split(".")[-1]
    if last in ("relative_position_index", "num_batches_tracked", "empty_weight"):
        return None
    if last == "running_var":
        return 0.5 + abs(n)
    if last == "running_mean":
        return 0.1 * n
    if last == "gamma":
        return 0.6 + 0.2 * n
    if last == "relative_position_bias_table":
        return 0.2 * n
    if key.endswith(("query_feat.weight", "query_embed.weight")) or "level_embed" in key:
        return 0.5 * n
    if key.endswith("sampling_offsets.bias"):
        return n
    if last.endswith("bias"):
        return 0.1 * n
    if len(shape) == 1:
        return 1 + 0.1 * n
    scale = 0.5 if "mlp_cls_q" in key or "mlp_cls_k" in key else 1.0
    return scale * n / np.sqrt(np.prod(shape[1:]))


def fill(module: nn.Module, seed: int, rename: Callable[[str], Source]) -> None:
    """Give every tensor its value by recipe R1 under its published name."""
    state = module.state_dict()
    for name, tensor in state.items():
        key, part, parts = rename(name)
        key = re.sub(r"align_(\d)\.offset\.norm\.", r"layer_\1.norm.", key)  # one norm under two names
        value = weight(seed, key, (parts * tensor.shape[0], *tensor.shape[1:]) if tensor.shape else ())
        if value is not None:
            state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32).reshape(-1, *tensor.shape)[part])
    module.load_state_dict(state)


def network_input(seed: int, name: str, shape: list[int]) -> Tensor:
    return torch.from_numpy(rng(seed, name).standard_normal(shape).astype(np.float32))


def label_map(spec: dict[str, Any]) -> Tensor:
    """Label map [B, H, W] of a case."""
    B, _, H, W = spec["input_shape"]
    cell, r = spec.get("label_cell", 8), rng(spec["seed"], "label")
    coarse = r.integers(0, spec["num_classes"], (B, -(-H // cell), -(-W // cell)))
    noise = r.random((B, H, W))
    label = coarse.repeat(cell, axis=1).repeat(cell, axis=2)[:, :H, :W]
    return torch.from_numpy(np.where(noise < 0.1, 255, label)).long()


def compare_gradients(case: Case, mode: str, model: SeMask, expected: dict[str, list[float]]) -> None:
    """Compare norm and projection of every parameter's gradient; tensors that are one in the golden are joined."""
    names, seed = official_names(model), case.spec["seed"]
    parts: dict[str, dict[int, Tensor]] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        parts.setdefault(names[name].name, {})[names[name].part] = parameter.grad
    gradients = {
        name: torch.cat([found[i] for i in sorted(found)]) if len(found) > 1 else found[0]
        for name, found in parts.items()
    }
    assert set(gradients) == set(expected), (
        f"gradients of other parameters: {sorted(set(gradients) ^ set(expected))[:4]}"
    )
    # Some gradients are zero but for rounding (softmax does not see the bias of a key): compare them to a size.
    floor = 0.01 * float(np.median([norm for norm, _ in expected.values()]))
    for name, (norm, dot) in expected.items():
        gradient = gradients[name].double()
        direction = torch.from_numpy(rng(seed, f"grad:{name}").standard_normal(tuple(gradient.shape)))
        difference = max(abs(gradient.norm().item() - norm), abs((gradient * direction).sum().item() - dot))
        case.note(f"{mode}/grad {name}", difference / max(norm, floor))
