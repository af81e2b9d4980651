"""Covering designs: few cases in which every pair (or triple) of values occurs somewhere."""

import itertools
import random


def tuples(row, strength, name=None):
    """The sets of `strength` items of a row, ordered (factor, index) tuples; all, or those with `name`."""
    if name is None:
        return {*itertools.combinations(sorted(row.items()), strength)}
    others = itertools.combinations([item for item in row.items() if item[0] != name], strength - 1)
    return {tuple(sorted((*rest, (name, row[name])))) for rest in others}


def design(factors, strength=2):
    """Dicts {factor: value} in which any values of any `strength` factors meet; greedy, and always the same.

    Each row begins with a tuple that is missing; then each factor takes the value that adds most new ones."""
    draw, rows = random.Random(0), []
    indices = {name: range(len(values)) for name, values in factors.items()}
    missing = set()
    for names in itertools.combinations(sorted(factors), strength):
        missing |= {tuple(zip(names, at, strict=True)) for at in itertools.product(*map(indices.get, names))}
    while missing:
        row = dict(min(missing))
        for name in draw.sample(sorted(factors.keys() - row.keys()), len(factors) - strength):
            gains = {i: len(missing & tuples(row | {name: i}, strength, name)) for i in indices[name]}
            best = [i for i, gain in gains.items() if gain == max(gains.values())]
            row[name] = draw.choice(best)
        missing -= tuples(row, strength)
        rows.append({name: factors[name][row[name]] for name in factors})
    return rows
