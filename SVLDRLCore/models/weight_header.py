"""The names, types and shapes of a package's weights, read from the file's header before any weight is.

A safetensors file begins with the length of its header (8 bytes, little endian) and the header as JSON:
`{"name": {"dtype": "F32", "shape": [8, 1, 3, 3, 3], "data_offsets": [0, 864]}, ...}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

MAX_HEADER_BYTES = 4 << 20
"""The largest network here has 2,000 tensors, of 150 bytes each in the header."""
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Entry:
    """One tensor as the header describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return math.prod(self.shape)


def header_length(first: bytes, file_bytes: int) -> int:
    """Bytes of the header from the file's first eight; raises ValueError where it cannot be one."""
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise ValueError("it does not begin with a header")
    return length


def parse_header(header: bytes, data_bytes: int) -> dict[str, Entry]:
    """Tensors by name; raises ValueError for a header that does not describe `data_bytes` of weights."""
    try:
        table = json.loads(header.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(table, dict):
        raise ValueError("its header is no table")
    found = {str(name): _entry(name, about) for name, about in table.items() if name != "__metadata__"}
    if sum(BYTES[entry.dtype] * entry.values for entry in found.values()) != data_bytes:
        raise ValueError("its header promises more or less than the file holds")
    return found


def _entry(name: str, about: Any) -> Entry:
    shape: Any = about.get("shape") if isinstance(about, dict) else None
    whole = isinstance(shape, list) and len(shape) <= 8 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if not whole or about.get("dtype") not in BYTES:
        raise ValueError(f"its header describes {name[:60]!r} in a way that is not read here")
    return Entry(about["dtype"], tuple(shape))


class WithoutWeights(TorchFunctionMode):
    """Networks built inside have shapes and no memory behind them: what parameters are made with goes to `meta`.

    Unlike `torch.device("meta")` it leaves small tables (`linspace`, `arange`) alone, whose numbers MONAI asks for.
    """

    _MAKERS = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full)
    _FILLERS = ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "zero_", "fill_", "copy_")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in self._FILLERS and args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return args[0]
        if func in self._MAKERS:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def difference(network: nn.Module, given: Mapping[str, Entry]) -> str:
    """How weights in a file differ from what a network needs, in words; empty if they fit."""
    needed = network.state_dict()
    lacking, unknown = sorted(needed.keys() - given.keys()), sorted(given.keys() - needed.keys())
    if lacking or unknown:
        examples = f"{lacking[0]!r} is missing" if lacking else f"{unknown[0][:60]!r} belongs to another network"
        return f"{examples}, {len(given)} tensors are there, {len(needed)} are needed"
    for name, tensor in needed.items():
        entry = given[name]
        if entry.shape != tuple(tensor.shape):
            return f"{name!r} has the shape {list(entry.shape)}, {list(tensor.shape)} is needed"
        if tensor.is_floating_point() != (entry.dtype in _FLOATS):
            return f"{name!r} holds {entry.dtype}, {tensor.dtype} is needed"
    return ""
