"""The makers of `lowprec.QuantizedArray`."""

from lowprec.quantizers.ggml import from_ggml_bytes, ggml_bytes, quantize_ggml

__all__ = ["from_ggml_bytes", "ggml_bytes", "quantize_ggml"]
