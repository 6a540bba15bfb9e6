r"""Byte-level byte-pair encoding as SmolLM2 has it: digits apart, GPT-2's words, merges in the order they were learned.

The pattern of GPT-2 is ``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``; Python's
`re` has no ``\p``, and its ``\s`` takes four control characters for spaces that Unicode does not. So every character
is first replaced by an ASCII character of its class, and the pattern is matched on that.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Unicode's White_Space, which \s means in the pattern.
_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_PATTERN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)
_LONGEST_KEPT = 64  # characters of a word whose tokens are remembered


class _Classes(dict[int, str]):
    """Which ASCII character stands for the class of each; found when it is first asked for."""

    def __missing__(self, code: int) -> str:
        """Return the character of a new one's class: A, 0, tab or !; ASCII mostly stands for itself."""
        letter = chr(code)
        kind = unicodedata.category(letter)[0]
        if letter in _SPACES:
            found = letter if code < 128 else "\t"
        elif kind == "L":
            found = letter if code < 128 else "A"
        elif kind == "N":
            found = "0"
        else:
            found = "'" if letter == "'" else "!"
        self[code] = found
        return found


def byte_letters() -> tuple[str, ...]:
    """Return the printable character that stands for each byte in the vocabulary, as GPT-2 chose them.

    Returns
    -------
    tuple of str
        256 characters.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> byte_letters()[ord("a")], byte_letters()[ord(" ")]
    ('a', 'Ġ')
    """
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in shown else chr(next(others)) for byte in range(256))


class Tokenizer:
    """Texts to tokens and back.

    Parameters
    ----------
    words : sequence of str
        The vocabulary: what each token stands for, in the characters of `byte_letters`.
    merges : sequence of str
        Pairs ``"left right"``, in the order they were learned.
    special : iterable of int
        Tokens that are marks, not text, such as ``<|endoftext|>``.

    Raises
    ------
    ValueError
        If a merge is no pair, or makes a word that is not in the vocabulary.

    Notes
    -----
    Equal to the package `tokenizers` with ``BPE(vocab, merges)`` after ``Digits(individual_digits=True)`` and
    ``ByteLevel(add_prefix_space=False)``. Which characters are letters and numbers is what Python's `unicodedata`
    says, whose version may be older or newer. A byte that the vocabulary lacks gives no token, as there: of SmolLM2's
    it lacks six control characters and the first bytes of planes 4 to 12 of Unicode, which are empty.

    Examples
    --------
    >>> tokenizer = Tokenizer(["a", "b", "ab", "1"], ["a b"])
    >>> tokenizer.encode("abba11").tolist(), tokenizer.decode([2, 1, 0])
    ([2, 1, 0, 3, 3], 'abba')
    """

    def __init__(self, words: Sequence[str], merges: Sequence[str], special: Iterable[int] = ()) -> None:
        self.words = tuple(words)
        self.special = tuple(special)
        self._ids = {word: number for number, word in enumerate(self.words)}
        self._ranks: dict[tuple[str, str], int] = {}
        for number, merge in enumerate(merges):
            left, space, right = merge.partition(" ")
            if not (left and space and right) or left + right not in self._ids:
                msg = f"`merges` must hold pairs of words that make a word of the vocabulary, got {merge!r}."
                raise ValueError(msg)
            self._ranks.setdefault((left, right), number)
        self._letters = byte_letters()
        self._bytes = {letter: byte for byte, letter in enumerate(self._letters)}
        self._classes = _Classes()
        self._remembered = lru_cache(maxsize=1 << 16)(self._merged)
        marks = sorted((self.words[each] for each in self.special), key=len, reverse=True)
        self._marks = re.compile(f"({'|'.join(map(re.escape, marks))})") if marks else None

    def pieces(self, text: str) -> list[str]:
        r"""Return the words that a text is cut into before pairs are merged.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list of str
            Joined they are the text.

        Raises
        ------
        Nothing.

        Examples
        --------
        >>> Tokenizer([], []).pieces("It's 42  o'clock\u00a0")
        ['It', "'s", ' ', '4', '2', ' ', ' o', "'", 'clock', '\xa0']
        """
        found: list[str] = []
        shadow = text.translate(self._classes)
        start = 0
        while start < len(text):  # a run without numbers, then numbers: the pattern sees no further than the run
            end = shadow.find("0", start)
            end = len(text) if end < 0 else end
            for match in _PATTERN.finditer(shadow[start:end]):
                found.append(text[start + match.start() : start + match.end()])
            start = end
            while start < len(text) and shadow[start] == "0":
                found.append(text[start])
                start += 1
        return found

    def encode(self, text: str, *, special: bool = False) -> NDArray[np.int64]:
        """Return the tokens of a text.

        Parameters
        ----------
        text : str
            Any text.
        special : bool
            Whether marks such as ``<|endoftext|>`` in the text become their tokens; else they are text like any other.

        Returns
        -------
        ndarray of int64
            One number per token.

        Raises
        ------
        TypeError
            If `text` is not a string.
        ValueError
            If it holds half of a surrogate pair, which no UTF-8 text does.
        """
        if not isinstance(text, str):
            msg = f"`text` must be a string, got {text!r} of type {type(text).__name__}."
            raise TypeError(msg)
        parts = self._marks.split(text) if special and self._marks else [text]
        tokens: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                tokens.append(self._ids[part])
                continue
            for piece in self.pieces(part):
                try:
                    tokens.extend((self._remembered if len(piece) <= _LONGEST_KEPT else self._merged)(piece))
                except UnicodeEncodeError as error:
                    msg = f"`text` must be valid Unicode, got half of a surrogate pair in {piece!r}; {error.reason}."
                    raise ValueError(msg) from None
        return np.array(tokens, np.int64)

    def decode(self, tokens: Iterable[int], *, special: bool = True) -> str:
        """Return the text of tokens.

        Parameters
        ----------
        tokens : iterable of int
            Tokens.
        special : bool
            Whether marks are shown.

        Returns
        -------
        str
            Bytes that are no UTF-8 are shown as U+FFFD.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary.
        """
        data = bytearray()
        hidden = frozenset(() if special else self.special)
        marks = frozenset(self.special)
        for token in tokens:
            number = int(token)
            if not 0 <= number < len(self.words):
                msg = f"`tokens` must be from 0 to {len(self.words) - 1}, got {number}."
                raise ValueError(msg)
            if number in hidden:
                continue
            word = self.words[number]
            data += word.encode() if number in marks else bytes(self._bytes[letter] for letter in word)
        return data.decode("utf-8", "replace")

    def _merged(self, piece: str) -> tuple[int, ...]:
        """Return the tokens of one word: the pair learned first is merged first, of equal pairs the leftmost."""
        parts: list[str | None] = []
        parts += [letter for byte in piece.encode() if (letter := self._letters[byte]) in self._ids]
        before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
        queue: list[tuple[int, int, str, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts):
                pair = str(parts[left]), str(parts[right])
                rank = self._ranks.get(pair)
                if rank is not None:
                    heapq.heappush(queue, (rank, left, *pair))

        for place in range(len(parts) - 1):
            offer(place, place + 1)
        while queue:
            _, left, one, other = heapq.heappop(queue)
            right = after[left]
            if parts[left] != one or right >= len(parts) or parts[right] != other:
                continue  # one of the two was merged with another part since
            parts[left], parts[right] = one + other, None
            after[left] = after[right]
            if after[right] < len(parts):
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return tuple(self._ids[part] for part in parts if part is not None)
