"""The makers of `lowprec.Sparse24`: criteria of what is kept, and masks."""
