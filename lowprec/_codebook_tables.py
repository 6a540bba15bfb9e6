"""The numbers of the code books: the value of every code, in the order of the codes.

Each table is a tuple of doubles that hold the numbers exactly as their makers store them.
"""

from __future__ import annotations

__all__ = ["FP4_BNB", "IQ4_NL", "NF4"]

# Quantiles of the normal distribution, made symmetric with an exact 0, divided by the largest: Dettmers, Pagnoni,
# Holtzman, Zettlemoyer: QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023, section 3 and appendix E.
# These are the float32 numbers of bitsandbytes 0.50.2, functional.get_4bit_type("nf4").
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

# 0, 1/16, 8, 12, 4, 6, 2, 3 divided by 12 in float32, then the same with the other sign: bitsandbytes 0.50.2,
# functional.get_4bit_type("fp4"). Codes 0 and 8 are both +0.
FP4_BNB = (
    0.0,
    0.0052083334885537624,
    0.6666666865348816,
    1.0,
    0.3333333432674408,
    0.5,
    0.1666666716337204,
    0.25,
    0.0,
    -0.0052083334885537624,
    -0.6666666865348816,
    -1.0,
    -0.3333333432674408,
    -0.5,
    -0.1666666716337204,
    -0.25,
)

# Whole numbers, denser around 1: llama.cpp, ggml/src/ggml-common.h, kvalues_iq4nl (also in gguf 0.19.0).
IQ4_NL = (
    -127.0,
    -104.0,
    -83.0,
    -65.0,
    -49.0,
    -35.0,
    -22.0,
    -10.0,
    1.0,
    13.0,
    25.0,
    38.0,
    53.0,
    69.0,
    89.0,
    113.0,
)
