"""The order of a sum, found from outside: which terms meet first, as a tree, and the tree's name.

References
----------
Xie, Gao, Xue, FPRev: Revealing the Order of Floating-Point Summation by Numerical Testing, arXiv:2411.00442:
put M and -M at two places and units everywhere else; the units that are gone were added before M and -M met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array

Tree = Any  # an int, the term's place, or a tuple of trees that are added in one step
Size = Callable[[int, int], int]


class Unclear(Exception):
    """The answers do not belong to a tree, or took too many calls."""


class Order(NamedTuple):
    """What was found."""

    tree: Tree
    exact: bool  # steps of more than two terms lose nothing before they are rounded


class Named(NamedTuple):
    """A tree that has a name."""

    name: str
    length: int  # products per block
    c: str  # "first", "each block" (added after the block's own sum), "last", "ignored"
    tree: Tree


def leaves(tree: Tree) -> list[int]:
    """Return the places in a tree."""
    return [tree] if isinstance(tree, int) else [place for child in tree for place in leaves(child)]


def _least(tree: Tree) -> int:
    """Return the least place in a tree, which `node` puts first."""
    while not isinstance(tree, int):
        tree = tree[0]
    return tree


def node(*children: Tree) -> Tree:
    """Return one step over some trees, in the order of their least places; a single one is itself."""
    return children[0] if len(children) == 1 else tuple(sorted(children, key=_least))


def sizes(order: Order) -> Array:
    """Return for each pair of places how many terms are gone, the two included, when M at one meets -M at the other."""
    count = len(leaves(order.tree))
    table = np.zeros((count, count), np.int16)

    def fill(tree: Tree) -> None:
        """Fill in the pairs that meet in a tree, its own step first."""
        parts = [leaves(child) for child in tree]
        places = np.array([place for part in parts for place in part])
        gone: Any = len(places)
        if order.exact and len(parts) > 2:
            own = np.repeat([len(part) for part in parts], [len(part) for part in parts])
            gone = np.add.outer(own, own)
        table[places[:, np.newaxis], places] = gone
        for child in tree:
            if not isinstance(child, int):
                fill(child)

    fill(order.tree)
    np.fill_diagonal(table, 0)
    return table


class _Search:
    """The search for a tree."""

    def __init__(self, size: Size, limit: int) -> None:
        self.size, self.left, self.exact = size, limit, False

    def ask(self, i: int, j: int) -> int:
        """Return a size, within the limit of calls."""
        self.left -= 1
        if self.left < 0:
            raise Unclear
        return self.size(i, j)

    def grow(self, places: list[int]) -> Tree:
        """Return the tree of places of which the first meets all others within them."""
        first, rest = places[0], places[1:]
        sizes = {j: self.ask(first, j) for j in rest}
        tree: Tree = first
        count = 1
        for gone in sorted(set(sizes.values())):
            group = [j for j in rest if sizes[j] == gone]
            if gone == count + len(group):
                tree = node(tree, *self.siblings(group, gone))
            elif gone == count + 1:
                self.exact = True
                tree = node(tree, *group)
            else:
                raise Unclear
            count += len(group)
        return tree

    def siblings(self, places: list[int], gone: int) -> list[Tree]:
        """Return the trees that meet in one step in which `gone` terms are lost."""
        if len(places) > 2:
            middle = len(places) // 2
            pairs = {(0, 1), (0, 2), (1, 2), (0, len(places) - 1), (middle - 1, middle), (middle, len(places) - 1)}
            if all(self.ask(places[x], places[y]) == gone for x, y in sorted(pairs) if x != y):
                return list(places)
        found: list[Tree] = []
        rest = places
        while rest:
            first = rest[0]
            mates = [j for j in rest[1:] if self.ask(first, j) < gone]
            if len(mates) == len(rest) - 1 and found == [] and mates:
                return [self.grow(rest)]
            found.append(self.grow([first, *mates]))
            rest = [j for j in rest[1:] if j not in mates]
        return found


def _searched(size: Size, count: int, limit: int) -> Order:
    """Find a tree without a guess."""
    search = _Search(size, limit)
    order = Order(search.grow(list(range(count))), search.exact)
    if sorted(leaves(order.tree)) != list(range(count)):
        raise Unclear
    return order


def _agrees(size: Size, table: Array) -> bool:
    """Say whether pairs here and there have the sizes of a table."""
    count = len(table)
    near = [(i, i + 1) for i in (0, 1, 2, 3, count // 2 - 1, count // 2, count - 3, count - 2)]
    far = [(i, (7 * i + 3) % (count - 1)) for i in range(1, count - 1, max(1, count // 16))]
    pairs = {(min(pair), max(pair)) for pair in near + far if pair[0] != pair[1]}
    return all(size(i, j) == table[i, j] for i, j in sorted(pairs))


def discover(size: Size, products: int, has_c: bool, limit: int) -> tuple[Order, Named | None]:
    """Find the tree of a sum.

    Parameters
    ----------
    size : callable
        ``size(i, j)``: how many terms, i and j included, are gone when the one is M and the other -M.
    products : int
        Number of products; c is the place after the last.
    has_c : bool
        Whether c is added at all.
    limit : int
        Calls of `size` at most, where the tree is none of those that have a name.

    Returns
    -------
    tuple of Order and (Named or None)
        The tree, and its name if it has one.

    Raises
    ------
    Unclear
        If the sizes are not those of a tree.
    """
    names, orders, tables = _catalogue(products, has_c)
    left = np.arange(len(orders))
    flat = tables.reshape(len(orders), -1)
    while len(left) > 1:
        ranked = np.sort(flat[left], axis=0)
        kinds = (np.diff(ranked, axis=0) != 0).sum(axis=0)
        best = int(np.argmax(kinds))
        if kinds[best] == 0:
            break
        i, j = divmod(best, products + has_c)
        left = left[flat[left, best] == size(min(i, j), max(i, j))]
    if len(left) and _agrees(size, tables[left[0]]):
        return orders[left[0]], names[left[0]]
    order = _searched(size, products + has_c, limit)
    if not _agrees(size, sizes(order)):
        raise Unclear
    return order, None


def _halves(trees: list[Tree]) -> Tree:
    """Return a binary tree over some trees."""
    while len(trees) > 1:
        pairs = [node(*trees[i : i + 2]) for i in range(0, len(trees), 2)]
        trees = pairs
    return trees[0]


def _chain(trees: list[Tree]) -> Tree:
    """Return a sum from left to right."""
    tree = trees[0]
    for each in trees[1:]:
        tree = node(tree, each)
    return tree


Inner = Callable[[Tree | None, list[int]], Tree]


def _with(total: Tree | None, *own: Tree) -> Tree:
    """Return a step over the running sum, if there is one, and some trees."""
    return node(*([] if total is None else [total]), *own)


def _odd_first(total: Tree | None, block: list[int]) -> Tree:
    """Return a chain over the odd places of pairs before the even ones."""
    swapped = [block[i ^ 1] for i in range(len(block))]
    return _chain(swapped if total is None else [total, *swapped])


def _inners(length: int) -> Iterator[tuple[str, bool, Inner]]:
    """Yield how a block can be added to the running sum: the words, whether its own sum comes first, the maker."""
    if length == 1:
        yield "one product after the other", False, lambda total, block: _with(total, *block)
        return
    yield "blocks of {L} in one step", False, lambda total, block: _with(total, *block)
    yield "blocks of {L} summed in one step, then added", True, lambda total, block: _with(total, node(*block))
    if length == 2:
        yield "pairs, the odd place first", False, _odd_first
        return
    yield (
        "blocks of {L}, each summed from left to right, then added",
        True,
        lambda total, block: _with(total, _chain(list(block))),
    )
    yield "blocks of {L} summed pairwise, then added", True, lambda total, block: _with(total, _halves(list(block)))
    yield (
        "blocks of {L}, even and odd places in chains of their own",
        True,
        lambda total, block: _with(total, node(_chain(block[::2]), _chain(block[1::2]))),
    )
    yield (
        "blocks of {L}, even and odd places summed apart, met in one step",
        False,
        lambda total, block: _with(total, node(*block[::2]), node(*block[1::2])),
    )
    yield (
        "blocks of {L}, even and odd places summed apart, then added",
        True,
        lambda total, block: _with(total, node(node(*block[::2]), node(*block[1::2]))),
    )
    if length % 4 == 0 and length > 4:
        yield (
            "blocks of {L}: places 0 and 1 of every four, then 2 and 3, then the running sum",
            True,
            lambda total, block: _with(
                total,
                node(
                    node(*[p for i, p in enumerate(block) if i % 4 < 2]), *[p for i, p in enumerate(block) if i % 4 > 1]
                ),
            ),
        )


def _candidates(count: int, has_c: bool) -> Iterator[Named]:
    """Yield trees with names over `count` products and, as the last place, c."""
    lengths = [length for length in range(1, count + 1) if count % length == 0]
    starts = {"first": count, "last": None} if has_c else {"ignored": None}
    for length in lengths:
        blocks = [list(range(i, i + length)) for i in range(0, count, length)]
        for words, own_sum, inner in _inners(length):
            for where, start in starts.items():
                for word, order in (("ascending", blocks), ("descending", blocks[::-1])):
                    total: Tree | None = start
                    for block in order:
                        total = inner(total, block)
                    place = "each block" if where == "first" and own_sum else where
                    tree = node(total, count) if where == "last" else total
                    yield Named(f"{words.format(L=length)}, {word}", length, place, tree)
        if length < count:
            name = "pairwise" if length == 1 else f"pairwise over sums of {length} from left to right"
            whole = _halves([_chain(block) for block in blocks])
            fused = f"pairwise over blocks of {length} in one step"
            for words, tree in ((name, whole), (fused, _halves([node(*block) for block in blocks]))):
                yield Named(words, length, "last" if has_c else "ignored", node(tree, count) if has_c else tree)


@lru_cache(maxsize=8)
def _catalogue(products: int, has_c: bool) -> tuple[list[Named], list[Order], Array]:
    """Return the trees with names, each as a sum that loses and one that keeps, and their sizes."""
    names: list[Named] = []
    orders: list[Order] = []
    for each in {named.tree: named for named in reversed(list(_candidates(products, has_c)))}.values():
        for exact in (False, True):
            names.append(each)
            orders.append(Order(each.tree, exact))
    names, orders = names[::-1], orders[::-1]
    return names, orders, np.stack([sizes(order) for order in orders])


def text(tree: Tree, count: int) -> str:
    """Return a tree in brackets, runs of places shortened, c at its place."""
    if isinstance(tree, int):
        return "c" if tree == count else str(tree)
    parts: list[str] = []
    run: list[int] = []

    def flush() -> None:
        """Write the run of places so far."""
        if run:
            parts.append(f"{run[0]}..{run[-1]}" if len(run) > 2 else " ".join(map(str, run)))
            run.clear()

    for child in tree:
        if isinstance(child, int) and child != count and (not run or child == run[-1] + 1):
            run.append(child)
            continue
        flush()
        if isinstance(child, int) and child != count:
            run.append(child)
        else:
            parts.append(text(child, count))
    flush()
    return f"({' '.join(parts)})"
