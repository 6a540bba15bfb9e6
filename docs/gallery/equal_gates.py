"""Finding c. int8, FP8, MXFP6, MXFP4 and NVFP4: what a language model loses, and what the unit costs.

Run from the repository, after `lowprec fetch smollm2`:  python docs/gallery/equal_gates.py
"""

import finding

import lowprec as lp

WORDS = ("int8", "e4m3fn", "e5m2", "mxint8", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp6_e3m2", "nvfp4", "mxfp4", "bf16")
SETTINGS = {word: lp.nn.Arithmetic(word) for word in WORDS}
for _word in ("mxfp8_e4m3", "mxfp6_e2m3"):
    SETTINGS[f"{_word}, scales rceil"] = lp.nn.Arithmetic(_word, scale_rule="rceil")
SETTINGS["e4m3fn, a scale per row"] = lp.nn.Arithmetic("e4m3fn", scales="row")  # as int8 has them


if __name__ == "__main__":
    options = finding.arguments(__doc__)
    records = finding.run(SETTINGS, options)
    unit = next(record["ge"] for record in records if record["arithmetic"] == "int8")
    for record in records:
        record["lanes"] = f"{unit / record['ge']:.2f}"
    more = {"bits_per_weight": "bits per weight", "ge": "gates per product (GE)", "lanes": "products in int8's gates"}
    finding.write(records, "equal_gates", options, more)
    finding.scatter(records, "equal_gates", options)
