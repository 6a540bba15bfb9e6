"""The makers of `lowprec.QuantizedArray`: `quantize`'s parts, GGML's formats, and the quantisers of weights."""

import typing

from lowprec.quantizers.ggml import from_ggml_bytes, ggml_bytes, quantize_ggml

if typing.TYPE_CHECKING:
    from lowprec.quantizers._awq import awq
    from lowprec.quantizers._gptq import gptq
    from lowprec.quantizers._hqq import hqq
    from lowprec.quantizers.nearest import mse_clip, round_to_nearest
    from lowprec.quantizers.result import QuantizedWeight
    from lowprec.quantizers.rotation import hadamard
    from lowprec.quantizers.smooth import smoothquant
    from lowprec.quantizers.transforms import Divide, Rotation, Transform

__all__ = [
    "Divide",
    "QuantizedWeight",
    "Rotation",
    "Transform",
    "awq",
    "from_ggml_bytes",
    "ggml_bytes",
    "gptq",
    "hadamard",
    "hqq",
    "mse_clip",
    "quantize_ggml",
    "round_to_nearest",
    "smoothquant",
]

# Quantisers of weights multiply, so they come after what multiplication needs of this package.
_LATER = {
    "QuantizedWeight": "result",
    "awq": "_awq",
    "gptq": "_gptq",
    "hadamard": "rotation",
    "hqq": "_hqq",
    "smoothquant": "smooth",
    **dict.fromkeys(("mse_clip", "round_to_nearest"), "nearest"),
    **dict.fromkeys(("Divide", "Rotation", "Transform"), "transforms"),
}


def __getattr__(name: str) -> object:
    """Import a quantiser of weights when it is first asked for."""
    if name in _LATER:
        from importlib import import_module

        globals()[name] = getattr(import_module(f"lowprec.quantizers.{_LATER[name]}"), name)
        return globals()[name]
    msg = f"module 'lowprec.quantizers' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Name the public names, loaded or not."""
    return sorted({*globals(), *__all__})
