"""Finding a. What the 13 fraction bits of Hopper's FP8 tensor cores cost a language model, and what promotion mends.

Run from the repository, after `lowprec fetch smollm2`:  python docs/gallery/hopper_fp8.py
"""

import finding

import lowprec as lp

SETTINGS = {
    "e4m3, exact sums": lp.nn.Arithmetic("e4m3fn", "exact"),
    "e4m3, fp32 sums (FMA in order)": lp.nn.Arithmetic("e4m3fn", "fp32"),
    "e4m3, Hopper (13 fraction bits)": lp.nn.Arithmetic("e4m3fn", "nvidia-hopper"),
    "e4m3, Hopper, promoted every 128": lp.nn.Arithmetic("e4m3fn", lp.Chunked("nvidia-hopper", every=128)),
    "e4m3, Hopper, promoted every 32": lp.nn.Arithmetic("e4m3fn", lp.Chunked("nvidia-hopper", every=32)),
    "bf16, Hopper": lp.nn.Arithmetic("bf16", "nvidia-hopper"),
}

if __name__ == "__main__":
    options = finding.arguments(__doc__)
    records = finding.run(SETTINGS, options)
    finding.between(SETTINGS, "e4m3, exact sums", records, options)
    more = {"kl_between": "KL from e4m3 with exact sums (nats)", "same_choice": "top-1 agreement with that"}
    finding.write(records, "hopper_fp8", options, more)
    finding.draw(
        records, "hopper_fp8", "SmolLM2-135M, FP8 E4M3 with a scale per tensor, by how products are summed", options
    )
