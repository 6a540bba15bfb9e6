"""The makers of QuantizedArray."""
