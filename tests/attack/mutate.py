"""Damage to bytes, by a seeded generator: the same seed and input give the same output everywhere."""

import json
import random

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *("null", "true", "-1", "1e999", "NaN", "Infinity", "[]", "{}", '""', "0", "-0", "1" * 5000, "9" * 20),
    *(
        "[" * 3000,
        '{"a":' * 500,
        "\\u0000",
        "\\ud800",
        "\x00",
        "é",
        "\U0001f600",
        '"',
        "'",
        ",",
        "\n",
        "\r",
        "#",
    ),
)


def damaged(data: bytes, rng: random.Random, others=(), words=WORDS) -> bytes:
    """`data` after one to eight changes; `others` are inputs from which parts may be taken."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 16, 64, 300))
        kind = rng.randrange(9)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(len(out[at : at + size]))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size] * rng.choice((1, 2, 20))
        elif kind == 4:
            out[at:at] = rng.choice(words).encode(errors="surrogatepass")
        elif kind == 5:
            number = rng.choice(NUMBERS).to_bytes(8, rng.choice(("little", "big")))
            out[at : at + size] = number[: min(size, 8)]
        elif kind == 6 and others:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            out[at : at + size] = other[begin : begin + rng.choice((size, 4 * size))]
        elif kind == 7:
            del out[at:]
        else:
            other = rng.randrange(len(out) + 1)
            out[at:at] = out[other : other + size]
    return bytes(out)


def other_value(rng: random.Random, value):
    """A value in the place of a JSON value: another one of its kind, or of any."""
    plain = (
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        10**6,
        2**31,
        2**63,
        10**400,
        0.5,
        -0.0,
        1e308,
        "",
        "x",
        "a\0b",
        [],
        {},
    )
    if isinstance(value, str) and rng.random() < 0.3:
        return value[: rng.randrange(len(value) + 1)]
    if isinstance(value, list) and rng.random() < 0.5:
        return [*value, *value] if rng.random() < 0.5 else value[:-1]
    if rng.random() < 0.1:
        nested = 1
        for _ in range(rng.choice((3, 100, 900, 5000))):
            nested = [nested] if rng.random() < 0.5 else {"a": nested}
        return nested
    return rng.choice(plain)


def changed_json(text: str, rng: random.Random) -> str:
    """A JSON text with one or two of its values changed, removed, added or doubled."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for _ in range(rng.choice((1, 1, 2))):
        holders = [whole] if isinstance(whole, dict) and whole else []
        for holder in holders:  # grows
            holders += [v for v in holder.values() if isinstance(v, dict) and v]
        if not holders:
            return rng.choice(WORDS)
        holder = rng.choice(holders)
        key = rng.choice(sorted(holder))
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[rng.choice((key + "2", "", "format", "x"))] = other_value(rng, holder[key])
        else:
            holder[key] = other_value(rng, holder[key])
    try:
        return json.dumps(whole)
    except RecursionError:
        return "[" * 5000
