"""THE table of operators: those that run in the emulation, and those that multiply and cannot."""

from __future__ import annotations

from typing import NamedTuple

from lowprec.cost._printed import Records


class Operator(NamedTuple):
    """A row of the table.

    Parameters
    ----------
    name : str
        What torch calls it, ``aten::`` left out.
    reached_by : str
        What a model calls.
    emulated_as : str
        What it becomes.

    Raises
    ------
    Nothing.
    """

    name: str
    reached_by: str
    emulated_as: str


_TABLE = (
    Operator("mm", "linear, matmul, einsum, tensordot, RNNs; gradients of linear", "lowprec.matmul(a, b)"),
    Operator("addmm", "linear with bias, torch.addmm", "lowprec.linear(a, b.T, c), or beta * c + alpha * a @ b"),
    Operator("bmm", "matmul, einsum, attention, bilinear", "lowprec.matmul of each matrix"),
    Operator("baddbmm", "torch.baddbmm", "beta * c + alpha * lowprec.matmul of each matrix"),
    Operator("addbmm", "torch.addbmm", "beta * c + alpha * one sum over (matrix, k)"),
    Operator("mv", "matmul of a matrix and a vector", "lowprec.matmul(a, v)"),
    Operator("addmv", "torch.addmv", "beta * c + alpha * lowprec.matmul(a, v)"),
    Operator("dot", "matmul of vectors", "lowprec.matmul(a, b)"),
    Operator("vdot", "torch.vdot", "lowprec.matmul(a, b)"),
    Operator("_addmm_activation", "fused linear and activation", "lowprec.linear, then ReLU or GELU"),
    Operator("convolution", "conv1d to conv3d, transposed or not", "lowprec.conv2d, or its rule in 1-D and 3-D"),
    Operator("convolution_backward", "gradients of convolutions", "a transposed convolution, and grad @ patches"),
    Operator("scaled_dot_product_attention", "attention", "two bmm, with scale, mask and softmax in float32 between"),
    Operator("_scaled_dot_product_flash_attention_for_cpu", "attention inside C++", "the same"),
    Operator("_scaled_dot_product_flash_attention_for_cpu_backward", "its gradients", "the same"),
    Operator("bilinear", "nn.Bilinear", "x1 @ w, then its product with x2: mm and bmm"),
    Operator("lstm", "nn.LSTM", "its steps, with oneDNN switched off"),
)

COMPUTED = frozenset(row.name for row in _TABLE)

REFUSED = frozenset(
    (
        *("_cdist_forward", "_cdist_backward", "_euclidean_dist", "_pdist_forward", "_pdist_backward"),
        *("_int_mm", "_scaled_mm", "_scaled_mm_v2", "_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2"),
        *("_foreach_mm", "_dyn_quant_matmul_4bit", "_mixed_dtypes_linear", "_weight_int4pack_mm"),
        *("_weight_int4pack_mm_for_cpu", "_weight_int4pack_mm_with_scales_and_zeros", "_weight_int8pack_mm"),
        *("_wrapped_quantized_linear_prepacked", "_sparse_addmm", "_sparse_mm_reduce_impl", "_sparse_sparse_matmul"),
        *("_sparse_mm_reduce_impl_backward", "sparse_sampled_addmm", "hspmm", "smm", "sspaddmm", "_spsolve"),
        *("_cslt_sparse_mm", "_sparse_semi_structured_addmm", "_sparse_semi_structured_linear"),
        *("_sparse_semi_structured_mm", "mkldnn_linear", "mkldnn_linear_backward", "mkldnn_linear_backward_input"),
        *("mkldnn_linear_backward_weights", "mkldnn_convolution", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"),
        *("conv_tbc", "conv_tbc_backward", "_slow_conv2d_forward", "_slow_conv2d_backward", "slow_conv3d_forward"),
        *("slow_conv_dilated2d", "slow_conv_dilated3d", "slow_conv_transpose2d", "slow_conv_transpose3d"),
        *("_conv_depthwise2d", "conv_depthwise3d", "_nnpack_spatial_convolution", "convolution_overrideable"),
        *("convolution_backward_overrideable", "cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn"),
        *("cudnn_convolution_relu", "cudnn_convolution_add_relu", "_cudnn_rnn_backward", "miopen_convolution"),
        *(
            "miopen_rnn",
            "matmul_backward",
            "linear_backward",
            "_trilinear",
            "_native_multi_head_attention",
            "_transformer_encoder_layer_fwd",
        ),
        *("_triton_multi_head_attention", "_triton_scaled_dot_attention", "_flash_attention_forward"),
        *("_flash_attention_backward", "_efficient_attention_forward", "_efficient_attention_backward"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward"),
        *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_efficient_attention_backward"),
        *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_cudnn_attention_backward"),
        *("_scaled_dot_product_fused_attention_overrideable", "_fft_c2c", "_fft_c2r", "_fft_r2c"),
        *("_linalg_det", "_linalg_eigh", "_linalg_eigvals", "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd"),
        *("linalg_cholesky_ex", "linalg_eig", "linalg_householder_product", "linalg_inv_ex", "linalg_ldl_factor_ex"),
        *("linalg_ldl_solve", "linalg_lstsq", "linalg_lu", "linalg_lu_factor_ex", "linalg_lu_solve"),
        *("linalg_matrix_exp", "linalg_pinv", "linalg_qr", "linalg_solve_triangular", "cholesky", "cholesky_inverse"),
        *("cholesky_solve", "_cholesky_solve_helper", "geqrf", "ormqr", "triangular_solve"),
        *("_compute_linear_combination",),
    )
)
"""Operators that multiply and add inside, where the emulation cannot reach."""

REFUSED_NAMESPACES = frozenset(("quantized", "_quantized", "onednn", "mkldnn", "mkl", "mkldnn_prepacked", "sparse"))


def operators() -> Records[Operator]:
    """Return the operators that run in the emulation, and as what.

    Everything else that multiplies matrices comes down to these; additions, activations, normalisations, pooling and
    embeddings run as they are.

    Returns
    -------
    Records of Operator
        Prints as a table.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> [row.name for row in lp.torch.operators()][:3]
    ['mm', 'addmm', 'bmm']
    """
    return Records(_TABLE)


def names() -> str:
    """Return the names of all operators that are emulated, for errors."""
    return ", ".join(row.name for row in _TABLE)
