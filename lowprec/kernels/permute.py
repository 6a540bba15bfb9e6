"""Orders of channels that lose less by structured sparsity: the inner loops of the search.

Scores are unsigned integers, one contiguous row of `scores` for each channel, so that sums are exact, in any order, and
every step of a search raises a whole number. A group is `group` channels at consecutive places of `order`; in each row
of the weight the `kept // run` best of its ``group // run`` runs count, a run's score being the sum of its channels'.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.words import add, full_width, larger, smaller

CHUNK = 256  # rows whose scores are summed in 32 bits; the scores must be small enough for that


@inline
def _sum_of_larger(low, column):
    """Return the sum over rows of the larger of two."""
    total = np.int64(0)
    for first in range(0, column.size, CHUNK):
        part = np.uint32(0)
        for r in range(first, min(first + CHUNK, column.size)):
            part = add(part, larger(low[r], column[r]))
        total += np.int64(part)
    return total


@njit()
def group_value(scores, channels, kept, run):
    """Return what is kept of one group of channels, summed over rows."""
    full_width()
    runs, wanted = channels.size // run, kept // run
    best = np.empty((wanted, CHUNK), np.uint32)
    moving = np.empty(CHUNK, np.uint32)
    total = np.int64(0)
    for first in range(0, scores.shape[1], CHUNK):
        count = min(CHUNK, scores.shape[1] - first)
        best[:] = np.uint32(0)
        for t in range(runs):
            moving[:] = np.uint32(0)
            for each in range(run):
                column = scores[channels[t * run + each]]
                for r in range(count):
                    moving[r] = add(moving[r], column[first + r])
            for place in range(wanted):  # the sorted best so far: what falls out of one place moves to the next
                row = best[place]
                for r in range(count):
                    old, new = row[r], moving[r]
                    row[r] = larger(old, new)
                    moving[r] = smaller(old, new)
        for place in range(wanted):
            row = best[place]
            part = np.uint32(0)
            for r in range(count):
                part = add(part, row[r])
            total += np.int64(part)
    return total


@njit()
def group_margins(scores, channels, kept, run, low, fixed):
    """For each place of a group: what a channel put there must exceed in each row, and what is kept apart from it.

    With x in place j, ``fixed[j] + sum(max(low[j], x))`` is kept.
    """
    full_width()
    runs, wanted = channels.size // run, kept // run
    sums = np.empty(runs, np.int64)
    best = np.empty(wanted, np.int64)
    fixed[:] = 0
    for r in range(scores.shape[1]):
        for t in range(runs):
            sums[t] = 0
            for each in range(run):
                sums[t] += np.int64(scores[channels[t * run + each], r])
        for t in range(runs):
            best[:] = 0
            for other in range(runs):
                moving = sums[other] if other != t else np.int64(0)
                for place in range(wanted):
                    if moving > best[place]:
                        best[place], moving = moving, best[place]
            upper = np.int64(0)
            for place in range(wanted - 1):
                upper += best[place]
            for j in range(t * run, t * run + run):
                beside = sums[t] - np.int64(scores[channels[j], r])
                low[j, r] = np.uint32(max(best[wanted - 1] - beside, 0))
                fixed[j] += upper + beside


@njit()
def fill_swaps(scores, order, real, first, last, group, kept, run, table, values):
    """Fill the rows of `table` for the channels of groups `first` to ``last - 1``, and the values of those groups.

    ``table[c, x]`` is what the group of channel c keeps with x in the place of c; x in another group.
    """
    full_width()
    low = np.empty(((last - first) * group, scores.shape[1]), np.uint32)
    fixed = np.empty(low.shape[0], np.int64)
    for g in range(first, last):
        at = (g - first) * group
        channels = order[g * group : (g + 1) * group]
        group_margins(scores, channels, kept, run, low[at : at + group], fixed[at : at + group])
        values[g] = group_value(scores, channels, kept, run)
    for x in range(real):
        for j in range(low.shape[0]):
            c = order[first * group + j]
            if c < real:
                table[c, x] = fixed[j] + _sum_of_larger(low[j], scores[x])


@njit()
def _swap_gain(scores, order, place, table, values, group, kept, run, c, x):
    """Return how much more is kept once channels c and x have changed places."""
    g, h = place[c] // group, place[x] // group
    if g != h:
        return table[c, x] + table[x, c] - values[g] - values[h]
    if place[c] // run == place[x] // run:
        return np.int64(0)
    channels = order[g * group : (g + 1) * group].copy()
    channels[place[c] % group], channels[place[x] % group] = x, c
    return group_value(scores, channels, kept, run) - values[g]


@njit()
def best_swaps(scores, order, place, real, group, kept, run, table, values, gains, partners, first, last):
    """Find the best partner of channels `first` to ``last - 1`` of all."""
    full_width()
    for c in range(first, last):
        gains[c], partners[c] = 0, -1
        for x in range(real):
            # In a group of single elements the order makes no difference.
            if x != c and (run > 1 or place[c] // group != place[x] // group):
                gain = _swap_gain(scores, order, place, table, values, group, kept, run, c, x)
                if gain > gains[c]:
                    gains[c], partners[c] = gain, x


@njit()
def climb(scores, order, place, real, group, kept, run, table, values, gains, partners, steps):
    """Make the swap that gains most, up to `steps` times, and return how many there were before none was left."""
    full_width()
    for step in range(steps):
        c = np.argmax(gains)
        if gains[c] <= 0:
            return step
        x = partners[c]
        g, h = place[c] // group, place[x] // group
        order[place[c]], order[place[x]] = x, c
        place[c], place[x] = place[x], place[c]
        fill_swaps(scores, order, real, g, g + 1, group, kept, run, table, values)
        if h != g:
            fill_swaps(scores, order, real, h, h + 1, group, kept, run, table, values)
        renew(scores, order, place, real, group, kept, run, table, values, gains, partners, g, h)
    return steps


@njit()
def renew(scores, order, place, real, group, kept, run, table, values, gains, partners, g, h):
    """Find the best partners again after groups g and h have changed."""
    for c in range(real):
        own, theirs = place[c] // group, place[partners[c]] // group if partners[c] >= 0 else -1
        if own in (g, h) or theirs in (g, h):
            best_swaps(scores, order, place, real, group, kept, run, table, values, gains, partners, c, c + 1)
            continue
        for half in range(1 if g == h else 2):
            for j in range(group):
                x = order[(h if half else g) * group + j]
                if x < real:
                    gain = _swap_gain(scores, order, place, table, values, group, kept, run, c, x)
                    if gain > gains[c] or (gain == gains[c] and gain > 0 and x < partners[c]):
                        gains[c], partners[c] = gain, x


@njit()
def _two_of_four(scores, window, subsets, sums):
    """Write what each choice of four of a window's channels keeps, two in each row."""
    sums[:] = 0
    for first in range(0, scores.shape[1], CHUNK):
        last = min(first + CHUNK, scores.shape[1])
        for s in range(subsets.shape[0]):
            a, b = scores[window[subsets[s, 0]]], scores[window[subsets[s, 1]]]
            c, d = scores[window[subsets[s, 2]]], scores[window[subsets[s, 3]]]
            part = np.uint32(0)
            for r in range(first, last):
                apart = add(larger(a[r], b[r]), larger(c[r], d[r]))
                part = add(part, larger(larger(add(a[r], b[r]), add(c[r], d[r])), apart))
            sums[s] += np.int64(part)


@njit()
def search_windows(scores, order, real, prefix, subsets, members, parts, kept, run, changed, seen, now, everything):
    """Divide the channels of several groups anew, if that keeps more: `prefix` with each group after its last.

    Parameters
    ----------
    prefix : ascending groups, one fewer than a window has.
    subsets : (subsets, group) places in a window; members: the same as bits.
    parts : (divisions, groups) the subsets of each division, that which changes nothing first.
    changed : when each group was changed last, in numbers of windows.
    seen, now : when the first of these windows was looked at before, and is now; the others follow one by one.
    everything : look at windows that have not changed, too.

    Returns
    -------
    how many windows were divided anew, and how many were looked at.
    """
    full_width()
    group, many = subsets.shape[1], parts.shape[1]
    divided = looked = 0
    window = np.empty(many * group, np.int64)
    chosen = np.empty(group, np.int64)
    groups = np.empty(many, np.int64)
    part = np.empty(many, np.int64)
    sums = np.empty(subsets.shape[0], np.int64)
    latest = np.int64(0)
    for i in range(many - 1):
        groups[i] = prefix[i]
    for last in range(prefix[many - 2] + 1, order.size // group):
        groups[many - 1] = last
        ahead = last - prefix[many - 2] - 1
        latest = 0
        for i in range(many):
            latest = max(latest, changed[groups[i]])
        if not everything and latest <= seen + ahead:
            continue
        looked += 1
        padding = 0
        for i in range(many):
            for j in range(group):
                window[i * group + j] = order[groups[i] * group + j]
                if window[i * group + j] >= real:  # padding stays where it is: at the end of the last group
                    padding |= 1 << (i * group + j)
        if kept == 2 and group == 4 and run == 1:
            _two_of_four(scores, window, subsets, sums)
        else:
            for s in range(subsets.shape[0]):
                for j in range(group):
                    chosen[j] = window[subsets[s, j]]
                sums[s] = group_value(scores, chosen, kept, run)
        best, most = 0, np.int64(-1)
        for p in range(parts.shape[0]):
            total, allowed = np.int64(0), True
            for i in range(many):
                total += sums[parts[p, i]]
                inside = members[parts[p, i]] & padding
                if inside != 0:
                    allowed = allowed and inside == padding
            if allowed and total > most:
                best, most = p, total
        if best == 0:
            continue
        divided += 1
        for i in range(many):
            part[i] = parts[best, i]
        for i in range(many - 1):
            if members[part[i]] & padding:
                part[i], part[many - 1] = part[many - 1], part[i]
        for i in range(many):
            changed[groups[i]] = now + ahead
            for j in range(group):
                order[groups[i] * group + j] = window[subsets[part[i], j]]
    return divided, looked
