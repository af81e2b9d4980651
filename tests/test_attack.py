"""The attacks of tests/attack: a case runs again by its number, and what is wrong is found."""

import os
import random
import signal

import pytest
from attack import core, files, harness, mutate
from attack.__main__ import NEEDS

import bptt_fast as bf


class Faulty:
    """Wrong in four of the first ten cases, each in another way."""

    def run(self, rng):
        number = int(rng.number)
        if number == 3:
            raise KeyError("no error of the package")
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        while number == 7:
            pass
        if number == 9:
            assert len(bytearray(200 << 20))
        return number % 2 == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_failures_are_found(monkeypatch, capfd):
    def numbered(name, number):
        rng = random.Random(number)
        rng.number = max(number, 0)
        return rng

    monkeypatch.setattr(harness, "generator", numbered)
    cases, accepted, failures = harness.campaign(Faulty, "faulty", 1, 0, 10, seconds=0.5, processes=1)
    assert (cases, accepted, sorted(failures)) == (10, 5, [3, 5, 7, 9])
    out, err = capfd.readouterr()
    assert "signal 9" in out and "--case faulty 3" in out
    assert "KeyError" in err and "Slow" in err and "MemoryError" in err


def test_edits_find_their_sources():
    for name, old, new in [*core.EDITS, core.ONE_INSTANCE]:
        assert new in core.edited(core.ROOT / "csrc" / name, [(name, old, new)])


@pytest.mark.parametrize("name", ("models", "tables", "settings"))
def test_a_case_is_its_number(name):
    """The same bytes in another object, and other bytes for other numbers."""
    one, two = files.TARGETS[name](), files.TARGETS[name]()
    made = [[t.damaged(harness.generator(name, n)) for n in range(20)] for t in (one, two)]
    assert made[0] == made[1] and len(set(made[0])) > 10


@pytest.mark.parametrize("name", files.TARGETS)
def test_attacks_on_files_find_nothing(name):
    pytest.importorskip(NEEDS.get(name, "bptt_fast"))
    target = files.TARGETS[name]()
    for number in range(10):
        target.run(harness.generator(name, number))  # raises what is not an error of the package's own


def test_damage_of_every_kind():
    good = bytes(range(200))
    made = {mutate.damaged(good, random.Random(n), [good[::-1]]) for n in range(500)}
    sizes = {len(m) for m in made}
    assert len(made) > 450 and min(sizes) < 100 and max(sizes) > 300


def test_models_under_a_right_checksum(monkeypatch):
    """The damage reaches what the checksum does not protect from, and some of it can be read."""
    target, messages = files.Models(), []
    load = bf.load

    def noted(path):
        try:
            return load(path)
        except bf.CorruptFileError as error:
            messages.append(str(error))
            raise

    monkeypatch.setattr(bf, "load", noted)
    accepted = sum(target.run(harness.generator("models", n)) for n in range(120))
    assert accepted > 3 and sum("that this version knows" in text for text in messages) > 10
