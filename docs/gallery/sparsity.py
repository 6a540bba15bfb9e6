"""Finding d. 2:4 sparsity alone, with the kept weights corrected, and with int8 on top.

Run from the repository, after `lowprec fetch smollm2`:  python docs/gallery/sparsity.py
"""

import finding

import lowprec as lp

SETTINGS = {
    "dense, bf16": lp.nn.Arithmetic("bf16"),
    "dense, int8": lp.nn.Arithmetic("int8"),
    "2:4 by magnitude, bf16": lp.nn.Arithmetic("bf16", sparsity="2:4"),
    "2:4 by Wanda, bf16": lp.nn.Arithmetic("bf16", sparsity="2:4 wanda"),
    "2:4 by SparseGPT, bf16": lp.nn.Arithmetic("bf16", sparsity="2:4 sparsegpt"),
    "2:4 by SparseGPT, int8": lp.nn.Arithmetic("int8", sparsity="2:4 sparsegpt"),
}

if __name__ == "__main__":
    options = finding.arguments(__doc__)
    records = finding.run(SETTINGS, options)
    finding.write(records, "sparsity", options)
    finding.draw(records, "sparsity", "SmolLM2-135M, two of four weights dropped", options)
