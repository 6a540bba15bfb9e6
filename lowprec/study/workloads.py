"""Multilayer perceptrons as workloads: a frozen network, its inputs and its labels; the handwritten digits."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata, resources
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lowprec.formats import FloatFormat, formats
from lowprec.nn import Arithmetic
from lowprec.nn._operands import scale_exponent
from lowprec.nn._weights import UNSCALED_BITS
from lowprec.study import metrics as measures
from lowprec.study._base import Metric, Workload
from lowprec.study._extras import require


@dataclass(frozen=True, eq=False)
class MLP(Workload):
    """A multilayer perceptron with ReLU between its layers, and the data that it is judged on.

    Parameters
    ----------
    name : str
        What the workload is called in tables.
    inputs : ndarray of float32, shape (N, features)
        One row per sample.
    labels : ndarray of int, shape (N,)
        The right class of each sample.
    weights : tuple of ndarray of float32, shape (out_features, in_features)
        One per layer.
    biases : tuple of ndarray of float32, shape (out_features,)
        One per layer.
    source : str, optional
        Where weights and data come from.

    Raises
    ------
    TypeError
        If an array is not of the dtype above.
    ValueError
        If shapes do not fit together, there is no layer or no sample, or a label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study import MLP
    >>> eye = np.eye(2, dtype=np.float32)
    >>> toy = MLP("toy", eye, np.array([0, 1]), (eye,), (np.zeros(2, np.float32),))
    >>> toy.forward("bf16").logits.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    name: str
    inputs: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    source: str = "custom"
    default_scales: str = "power_of_two"
    metrics: ClassVar[tuple[Metric, ...]] = (  # type: ignore[misc]
        Metric("sqnr_db", "SQNR", "dB", True, ".1f"),
        Metric("cross_entropy_nats", "cross-entropy", "nats", False, ".5f"),
        Metric("cross_entropy_increase_nats", "increase of cross-entropy", "nats", False, "+.1e"),
        Metric("accuracy", "accuracy", "", True, ".2%"),
        Metric("top1_agreement", "agreement", "", True, ".2%"),
    )

    def __post_init__(self) -> None:
        """Check kinds and shapes, so that a sweep cannot fail half-way."""
        arrays = {"inputs": self.inputs}
        arrays |= {f"weights[{i}]": weight for i, weight in enumerate(self.weights)}
        arrays |= {f"biases[{i}]": bias for i, bias in enumerate(self.biases)}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                msg = f"`{name}` must be an ndarray of float32, got {getattr(array, 'dtype', type(array).__name__)}."
                raise TypeError(msg)
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype.kind not in "iu":
            msg = f"`labels` must be an ndarray of integers, got {getattr(self.labels, 'dtype', type(self.labels))}."
            raise TypeError(msg)
        if not self.weights or len(self.weights) != len(self.biases):
            msg = f"`weights` and `biases` must have one entry per layer, got {len(self.weights)}, {len(self.biases)}."
            raise ValueError(msg)
        if self.inputs.ndim != 2 or not self.inputs.size:
            msg = f"`inputs` must have shape (N, features) with N > 0, got {self.inputs.shape}."
            raise ValueError(msg)
        features = self.inputs.shape[1]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != features:
                msg = f"`weights[{i}]` must have shape (out_features, {features}), got {weight.shape}."
                raise ValueError(msg)
            features = weight.shape[0]
            if bias.shape != (features,):
                msg = f"`biases[{i}]` must have shape ({features},), got {bias.shape}."
                raise ValueError(msg)
        if self.labels.shape != (len(self.inputs),):
            msg = f"`labels` must have shape ({len(self.inputs)},), got {self.labels.shape}."
            raise ValueError(msg)
        if self.labels.min() < 0 or self.labels.max() >= features:
            msg = f"`labels` must be from 0 to {features - 1}, got {self.labels.min()} to {self.labels.max()}."
            raise ValueError(msg)

    def forward(self, dtype: Any, accumulator: Any = None, *, scaled: bool = True) -> Forward:
        """Run the network with weights and activations in one format.

        Parameters
        ----------
        dtype : str, format or Arithmetic
            Format that the weights and each layer's input are rounded to, to nearest even; or all of how products are
            computed.
        accumulator : optional
            Accumulator of every product, as in `lowprec.matmul`. Bias and ReLU are in its format.
        scaled : bool
            Whether formats narrower than 16 bits get a power-of-two scale per tensor.

        Returns
        -------
        Forward
            The logits and the scales.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.nn.Arithmetic` and `lowprec.linear`.

        Notes
        -----
        A power-of-two scale is 2**k with the largest k that keeps ``max(abs(tensor)) * 2**k`` at or below the format's
        largest value, or 2**16 where the format reaches further. It is applied to the float32 tensor before rounding,
        and undone on the layer's result. Both are exact, short of the ends of float32's range. The scale of an
        activation is found on the whole batch.
        """
        if isinstance(dtype, Arithmetic):
            how = dtype
        else:
            how = Arithmetic(dtype, accumulator, scales="power_of_two" if scaled else "none")
        one, other = how.formats
        powers = how.scales == "power_of_two" and isinstance(one, FloatFormat) and isinstance(other, FloatFormat)
        x: NDArray[Any] = self.inputs
        weight_exponents, activation_exponents = [], []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            ready = how.prepare(weight, x, f"layer {i}")
            weight_exponents.append(ready.exponent)
            narrow = powers and one.bits < UNSCALED_BITS
            activation_exponents.append(scale_exponent(x, one) if narrow else 0)
            x = how.linear(x, ready, bias)
            if i < len(self.weights) - 1:
                x = np.maximum(x, 0)
        scales = powers and min(one.bits, other.bits) < UNSCALED_BITS
        return Forward(x, scales, tuple(weight_exponents), tuple(activation_exponents))

    def fingerprint(self) -> str:
        """Return a hash of all arrays.

        Returns
        -------
        str
            Hexadecimal digits.

        Raises
        ------
        Nothing.
        """
        digest = hashlib.sha256(self.name.encode())
        for array in (self.inputs, self.labels, *self.weights, *self.biases):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return the measures of the logits, and the scales.

        Parameters
        ----------
        arithmetic : Arithmetic
            How to compute products. Weight quantisers that need activations are given those of the same inputs.
        part : int
            0.

        Returns
        -------
        dict
            The measures of `metrics`; ``scaled``, ``weight_exponents``, ``activation_exponents``, ``samples``,
            ``reference_cross_entropy`` and ``reference_accuracy``.

        Raises
        ------
        TypeError, ValueError
            As `forward`.
        """
        del part
        result = self.forward(arithmetic)
        reference = self._truth
        entropy, ideal = (measures.cross_entropy(each, self.labels) for each in (result.logits, reference))
        return {
            "scaled": result.scaled,
            "weight_exponents": " ".join(map(str, result.weight_exponents)),
            "activation_exponents": " ".join(map(str, result.activation_exponents)),
            "sqnr_db": measures.sqnr_db(result.logits, reference),
            "cross_entropy_nats": entropy,
            "cross_entropy_increase_nats": entropy - ideal,
            "accuracy": measures.accuracy(result.logits, self.labels),
            "top1_agreement": measures.top1_agreement(result.logits, reference),
            "samples": len(self.labels),
            "reference_cross_entropy": ideal,
            "reference_accuracy": measures.accuracy(reference, self.labels),
        }

    def default_settings(self) -> tuple[Arithmetic, ...]:
        """Return every float format that can hold weights.

        Returns
        -------
        tuple of Arithmetic
            In the order of `lowprec.formats`.

        Raises
        ------
        Nothing.
        """
        chosen = [fmt for fmt in formats() if isinstance(fmt, FloatFormat) and fmt.is_signed and fmt.has_zero]
        return tuple(Arithmetic(fmt, scales=self.default_scales) for fmt in chosen)

    @cached_property
    def _truth(self) -> NDArray[np.float64]:
        return self.reference()

    def reference(self) -> NDArray[np.float64]:
        """Run the network in float64, without lowprec.

        Returns
        -------
        ndarray of float64, shape (N, classes)
            The logits. Products are summed in ascending k by NumPy's elementwise operations, so that the bits do not
            depend on a BLAS, and rounded apart from the sums, so that they are not those of an FMA chain either.

        Raises
        ------
        Nothing.
        """
        x = self.inputs.astype(np.float64)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            wide = weight.astype(np.float64)
            total = np.zeros((len(x), len(wide)))
            for k in range(wide.shape[1]):
                total += x[:, k, None] * wide[None, :, k]
            x = total + bias.astype(np.float64)
            x = np.maximum(x, 0) if i < len(self.weights) - 1 else x
        return x


@dataclass(frozen=True, eq=False)
class Forward:
    """What one forward pass gives: logits, and the exponents of the scales that it used.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        In the accumulator's dtype.
    scaled : bool
        Whether power-of-two scales were applied.
    weight_exponents, activation_exponents : tuple of int
        log2 of the scale of each layer's weight and input; 0 where there is none.
    """

    logits: NDArray[Any]
    scaled: bool
    weight_exponents: tuple[int, ...]
    activation_exponents: tuple[int, ...]


class _Digits(MLP):
    """The handwritten digits; images are loaded when they are asked for, not by a study whose numbers are kept."""

    def __init__(self) -> None:
        stored = resources.files("lowprec.study").joinpath("data", "digits_mlp.npz").read_bytes()
        with np.load(io.BytesIO(stored), allow_pickle=False) as content:
            layers = range(sum(name.startswith("weight") for name in content))
            facts: dict[str, Any] = {
                "name": "digits",
                "weights": tuple(content[f"weight{i}"] for i in layers),
                "biases": tuple(content[f"bias{i}"] for i in layers),
                "source": f"scikit-learn load_digits, weights by {content['script']} ({content['made_with']})",
                "_test": content["test_indices"],
                "_stored": hashlib.sha256(stored).hexdigest(),
            }
        for array in (*facts["weights"], *facts["biases"]):
            array.flags.writeable = False
        self.__dict__.update(facts)

    @cached_property
    def _images(self) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return test images and their labels."""
        images, target = require("sklearn.datasets", "The workload 'digits'").load_digits(return_X_y=True)
        test = self.__dict__["_test"]
        inputs, labels = (images[test] / 16).astype(np.float32), target[test]
        inputs.flags.writeable = labels.flags.writeable = False
        return inputs, labels

    @property
    def inputs(self) -> NDArray[np.float32]:
        """Pixels from 0 to 1."""
        return self._images[0]

    @property
    def labels(self) -> NDArray[np.integer[Any]]:
        """The digits."""
        return self._images[1]

    def fingerprint(self) -> str:
        """Return the hash of the weights and of which images are taken, and the version of what ships them."""
        try:
            version = metadata.version("scikit-learn")
        except metadata.PackageNotFoundError:
            version = require("sklearn", "The workload 'digits'").__version__
        return f"digits {self.__dict__['_stored']}, scikit-learn {version}"


@lru_cache(maxsize=1)
def digits() -> MLP:
    """Return the handwritten digits of scikit-learn with the weights of `scripts/train_digits.py`.

    Returns
    -------
    MLP
        64-128-64-10 with ReLU, on 599 test images. Its arrays are read-only.

    Raises
    ------
    ImportError
        If scikit-learn is missing, which ships the digits; when they are asked for.
    """
    return _Digits()
