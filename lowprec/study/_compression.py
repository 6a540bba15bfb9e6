"""Gradients compressed on the wire between data-parallel workers, and their mean, message by message."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from lowprec._checks import fmt_of
from lowprec.codec import round_to
from lowprec.formats import IntFormat
from lowprec.quantizers.api import quantize
from lowprec.study._training_network import Array
from lowprec.study._training_recipe import check_integer, closest

_CHANGES = ("ef", "ring")


@dataclass(frozen=True)
class Compression:
    """How gradients travel between data-parallel workers.

    Parameters
    ----------
    format : str
        Format of an element on the wire: a float format, a signed integer, or ``"sign"``, one bit. Floats of 16 bits
        and more have no scale; others have float32 scales, the largest magnitude over the largest value of the format,
        or the mean magnitude for signs.
    block : int, optional
        How many elements share a scale; by default all of a message.
    feedback : bool
        Whether a sender adds to its next message what this one lost.
    order : {"owner", "ring"}
        How sums are made: each worker sends its share of a chunk to the chunk's owner, who adds in float32 in the
        order of workers; or a chunk goes around, and every worker adds its share and compresses again. Either way the
        owner compresses the mean once and sends it to all.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or the parts do not go together.

    References
    ----------
    Seide et al., 1-Bit Stochastic Gradient Descent, Interspeech 2014 (error feedback; owners that add up in full
    precision and quantise again).
    Karimireddy et al., Error Feedback Fixes SignSGD, ICML 2019, arXiv:1901.09847 (signs times the mean magnitude).
    Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, JPDC 2009 (the ring).

    Examples
    --------
    >>> from lowprec.study import Compression
    >>> Compression.parse("int8/64+ef")
    Compression(format='int8', block=64, feedback=True, order='owner')
    """

    format: str = "fp32"
    block: int | None = None
    feedback: bool = False
    order: str = "owner"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.format != "sign":
            fmt = fmt_of(self.format, "format")
            if not (fmt.is_signed and getattr(fmt, "has_zero", True)):
                msg = f"`format` must hold negative numbers and zero, got {fmt.name}."
                raise ValueError(msg)
        if self.block is not None:
            object.__setattr__(self, "block", check_integer("block", self.block, 2, 2**20))
            if not self.is_scaled:
                msg = f"`block` must be None for {self.format}, which has no scale, got {self.block}."
                raise ValueError(msg)
        if self.order not in ("owner", "ring"):
            msg = f"`order` must be owner or ring, got {self.order!r}{closest(self.order, ('owner', 'ring'))}."
            raise ValueError(msg)
        if not isinstance(self.feedback, bool):
            msg = f"`feedback` must be True or False, got {self.feedback!r} of type {type(self.feedback).__name__}."
            raise TypeError(msg)

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the compression of a word.

        Parameters
        ----------
        word : str
            ``format[/block]``, then ``+ef`` for error feedback and ``+ring`` for sums around the ring.

        Returns
        -------
        Compression
            What the word says.

        Raises
        ------
        TypeError
            If `word` is no string.
        ValueError
            If it is unknown.
        """
        if not isinstance(word, str):
            msg = f"`word` must be a string, got {word!r} of type {type(word).__name__}."
            raise TypeError(msg)
        head, *rest = (part.strip() for part in word.split("+"))
        for change in rest:
            if change not in _CHANGES:
                msg = f"`dtypes` must have +ef or +ring after a format, got {change!r}{closest(change, _CHANGES)}."
                raise ValueError(msg)
        found = re.fullmatch(r"([^/]+)(?:/(\d+))?", head)
        if found is None:
            msg = f"`dtypes` must be words such as 'bf16', 'int8/64+ef' or 'sign+ef+ring', got {word!r}."
            raise ValueError(msg)
        block = int(found[2]) if found[2] else None
        return cls(found[1], block, "ef" in rest, "ring" if "ring" in rest else "owner")

    @property
    def label(self) -> str:
        """The word."""
        block = "" if self.block is None else f"/{self.block}"
        return f"{self.format}{block}{'+ef' * self.feedback}{'+ring' * (self.order == 'ring')}"

    @property
    def bits(self) -> int:
        """Bits of an element, without its share of a scale."""
        return 1 if self.format == "sign" else int(fmt_of(self.format, "format").bits)

    @property
    def is_scaled(self) -> bool:
        """Whether scales travel too."""
        return self.format == "sign" or isinstance(fmt_of(self.format, "format"), IntFormat) or self.bits < 16

    def key(self) -> str:
        """Return a text that is equal for equal compressions and different for any other.

        Returns
        -------
        str
            A hash, in hexadecimal digits.

        Raises
        ------
        Nothing.
        """
        fmt = "sign" if self.format == "sign" else repr(fmt_of(self.format, "format"))
        return hashlib.sha256(repr((fmt, self.block, self.feedback, self.order)).encode()).hexdigest()

    def nbytes(self, count: int) -> int:
        """Return the bytes of a message.

        Parameters
        ----------
        count : int
            Elements: whole blocks.

        Returns
        -------
        int
            Elements packed without gaps, up to whole bytes, and 4 bytes for each scale.

        Raises
        ------
        Nothing.

        Examples
        --------
        >>> from lowprec.study import Compression
        >>> [Compression.parse(word).nbytes(128) for word in ("fp32", "bf16", "int8", "int8/64", "sign")]
        [512, 256, 132, 136, 20]
        """
        scales = -(-count // (self.block or count)) if self.is_scaled and count else 0
        return -(-count * self.bits // 8) + 4 * scales

    def sent(self, messages: Array) -> Array:
        """Return messages as they arrive.

        Parameters
        ----------
        messages : ndarray of float32, shape (..., n)
            One message in each row; n is a whole number of blocks.

        Returns
        -------
        ndarray of float32
            Of the same shape.

        Raises
        ------
        ValueError
            If a row is not a whole number of blocks.
        """
        if self.format in ("fp32", "float32"):
            return messages
        if not self.is_scaled:
            return np.asarray(round_to(messages, self.format))
        length = messages.shape[-1]
        if not messages.size:
            return messages
        if length % (self.block or length):
            msg = f"`messages` must have whole blocks of {self.block} in a row, got {length}."
            raise ValueError(msg)
        rows = messages.reshape(-1, self.block or length)
        if self.format == "sign":
            sizes = np.abs(rows)
            total = np.zeros(len(rows), np.float64)
            for column in sizes.T:  # ascending: the order is written down
                total += column
            scale = (total / rows.shape[1]).astype(np.float32)[:, None]
            return np.where(np.signbit(rows), -scale, scale).reshape(messages.shape)
        arrived = quantize(rows, self.format, axis=0, nonfinite="propagate").dequantize()
        return np.asarray(arrived, np.float32).reshape(messages.shape)


class AllReduce:
    """The mean of the workers' gradients, as every worker gets it.

    Parameters
    ----------
    compression : Compression
        What is done to messages.
    workers : int
        How many.
    count : int
        Elements of a gradient.

    Raises
    ------
    ValueError
        If there are no workers.

    Attributes
    ----------
    chunk : int
        Elements of a chunk: the gradient is filled up with zeros to `workers` chunks of whole blocks.
    bytes_per_worker : int
        What each worker sends in one call, scales and filling included: ``2 (workers - 1)`` messages of a chunk, which
        for fp32 is ``2 (workers - 1) / workers`` times the size of the gradient.
    """

    def __init__(self, compression: Compression, workers: int, count: int) -> None:
        workers = check_integer("workers", workers, 1, 10**4)
        block = compression.block or 1
        self.chunk = -(-count // (workers * block)) * block
        self.bytes_per_worker = 2 * (workers - 1) * compression.nbytes(self.chunk)
        self._how, self._workers, self._count = compression, workers, count
        self._left = np.zeros((workers, workers, self.chunk), np.float32)  # of sender and chunk
        self._left_of_means = np.zeros((workers, self.chunk), np.float32)

    def __call__(self, gradients: Array) -> Array:
        """Return the mean.

        Parameters
        ----------
        gradients : ndarray of float32, shape (workers, count)
            One for each worker.

        Returns
        -------
        ndarray of float32, shape (count,)
            The same for all workers. One worker keeps its own, untouched.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        workers = self._workers
        if gradients.shape != (workers, self._count):
            msg = f"`gradients` must have shape {(workers, self._count)}, got {gradients.shape}."
            raise ValueError(msg)
        if workers == 1:
            return np.array(gradients[0])
        filled = np.zeros((workers, workers * self.chunk), np.float32)
        filled[:, : self._count] = gradients
        shares = filled.reshape(workers, workers, self.chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._around(shares) if self._how.order == "ring" else self._owned(shares)
            means = total * np.float32(1 / workers)
            wanted = means + self._left_of_means if self._how.feedback else means
            arrived = self._how.sent(wanted)
            if self._how.feedback:
                self._left_of_means = wanted - arrived
        return np.asarray(arrived.reshape(-1)[: self._count])

    def _owned(self, shares: Array) -> Array:
        """Return sums of chunks (workers, chunk) that their owners make in the order of workers, their own not sent."""
        wanted = shares + self._left if self._how.feedback else shares
        arrived = self._how.sent(wanted).copy()
        own = np.arange(self._workers)
        arrived[own, own] = shares[own, own]
        if self._how.feedback:
            self._left = wanted - arrived
            self._left[own, own] = 0
        total = arrived[0].copy()
        for share in arrived[1:]:
            total += share
        return np.asarray(total)

    def _around(self, shares: Array) -> Array:
        """Return sums of chunks that go around: chunk c starts at worker c + 1 and ends at c."""
        workers = self._workers
        chunks = np.arange(workers)
        held = shares[(chunks + 1) % workers, chunks]
        for hop in range(1, workers):
            sender = (chunks + hop) % workers
            wanted = held + self._left[sender, chunks] if self._how.feedback else held
            arrived = self._how.sent(wanted)
            if self._how.feedback:
                self._left[sender, chunks] = wanted - arrived
            held = arrived + shares[(chunks + hop + 1) % workers, chunks]
        return np.asarray(held)
