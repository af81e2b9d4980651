"""Coverage of the Python files (coverage.py) and of the C core (gcov) by the fast tests.

python tests/measure_coverage.py [arguments of pytest, in place of -m "not slow"]

A copy of the tree in a temporary folder is built with counters; the checkout stays as it is.  A line of the
kernels has run when an instance for any number type and instruction set ran it.  The tests run in one
process: those of pytest-xdist end without writing the counts of C.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """[run]
branch = True
parallel = True
source = {tree}/bptt_fast
omit = *.pyx
patch = subprocess
"""


def run(*command, tree, **environment):
    return subprocess.run(command, cwd=tree, env=os.environ | environment, check=False)


def copy(tree):
    """The checkout without what was built, its C flags with counters in place of the optimisation."""
    names = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    flags = tree / "csrc/flags"
    flags.write_text(flags.read_text().replace("-O3", "-O1 --coverage -fprofile-update=atomic"))


def counts(tree):
    """{file: {line: (how often it ran, [how often each branch was taken])}}, summed over the instances."""
    found = defaultdict(lambda: defaultdict(lambda: (0, [])))
    for data in sorted(tree.glob("build/temp*/csrc/**/*.gcda")):
        command = ["gcov", "--json-format", "--stdout", "--branch-probabilities", str(data)]
        for text in subprocess.check_output(command, cwd=tree, text=True).splitlines():
            for file in json.loads(text)["files"]:
                path = Path(file["file"])
                if path.is_absolute() and not path.is_relative_to(tree):
                    continue
                for line in file["lines"]:
                    total, branches = found[str(path)][line["line_number"]]
                    more = [branch["count"] for branch in line["branches"]]
                    branches = [a + b for a, b in zip_longest(branches, more, fillvalue=0)]
                    found[str(path)][line["line_number"]] = total + line["count"], branches
    return found


def spans(numbers):
    """1-3, 7 from 1, 2, 3, 7."""
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in found)


def report_c(tree):
    lines = [0, 0]
    branches = [0, 0]
    print("\nC: lines that did not run; lines with a branch that was never taken")
    for path, rows in sorted(counts(tree).items()):
        missed = {number for number, (count, _) in rows.items() if not count}
        partial = {number for number, (count, taken) in rows.items() if count and not all(taken)}
        lines = [lines[0] + len(rows) - len(missed), lines[1] + len(rows)]
        taken = [one for _, taken in rows.values() for one in taken]
        branches = [branches[0] + sum(map(bool, taken)), branches[1] + len(taken)]
        if missed or partial:
            print(f"  {path}: {spans(missed) or 'none'}; {spans(partial) or 'none'}")
    shares = [f"{100 * done / max(of, 1):.1f} % of {of}" for done, of in (lines, branches)]
    print(f"C: {shares[0]} lines, {shares[1]} branches")


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copy(tree)
        built = run(
            sys.executable, "setup.py", "-q", "build_ext", "--inplace", tree=tree, LDFLAGS="--coverage"
        )
        if built.returncode:
            return built.returncode
        (tree / "coverage.ini").write_text(CONFIG.format(tree=tree))
        measure = [sys.executable, "-m", "coverage"]
        options = "--rcfile=coverage.ini"
        tests = run(*measure, "run", options, "-m", "pytest", "-q", "-p", "no:xdist", *arguments, tree=tree)
        run(*measure, "combine", "-q", options, tree=tree)
        print("\nPython")
        run(*measure, "report", options, "--show-missing", "--skip-covered", tree=tree)
        report_c(tree)
        return tests.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["-m", "not slow"]))
