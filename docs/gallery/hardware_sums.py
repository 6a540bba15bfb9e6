"""Finding b. One model in bfloat16 on the sums of four machines, whether it matters which.

Run from the repository, after `lowprec fetch smollm2`:  python docs/gallery/hardware_sums.py
"""

import finding

import lowprec as lp

SETTINGS = {
    "bf16, fp32 sums (FMA in order)": lp.nn.Arithmetic("bf16", "fp32"),
    "bf16, NVIDIA Ampere": lp.nn.Arithmetic("bf16", "nvidia-ampere"),
    "bf16, NVIDIA Hopper": lp.nn.Arithmetic("bf16", "nvidia-hopper"),
    "bf16, AMD CDNA3": lp.nn.Arithmetic("bf16", "amd-cdna3"),
    "bf16, x86 AVX512-BF16": lp.nn.Arithmetic("bf16", "x86-avx512bf16"),
    "bf16, bf16 sums": lp.nn.Arithmetic("bf16", "bf16"),
}

if __name__ == "__main__":
    options = finding.arguments(__doc__)
    records = finding.run(SETTINGS, options)
    finding.between(SETTINGS, "bf16, fp32 sums (FMA in order)", records, options)
    more = {"kl_between": "KL from bf16 with fp32 sums (nats)", "same_choice": "top-1 agreement with that"}
    finding.write(records, "hardware_sums", options, more)
    finding.draw(records, "hardware_sums", "SmolLM2-135M in bfloat16, by the machine that sums", options)
