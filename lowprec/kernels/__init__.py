"""Numba kernels: arrays and numbers in, arrays out; they check nothing."""
