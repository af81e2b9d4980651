"""The C core under sanitizers: random plans, and system calls that fail."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
FLAGS = ["-O0", "-g", "-fno-wrapv", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
PLANS = 10  # in a process
SECONDS = 300  # of a process, which takes some
# edits of the sources: small plans have threads, slices and polls, too, though they do not pay
EDITS = [("plan.c", "each = 3e6;", "each = 1;"), ("batches.c", "SLICE_WORK = 2e8;", "SLICE_WORK = 3e3;")]
EDITS += [("batches.c", "FEWEST_ROWS = 128", "FEWEST_ROWS = 1")]
EDITS += [("embeddings.c", "AT_ONCE = 4096", "AT_ONCE = 2"), ("plan.c", "VALUES = 256", "VALUES = 1")]
EDITS += [("batches.c", "BYTES = 1 << 20, FRESH_BYTES = 16 << 20", "BYTES = 1 << 13, FRESH_BYTES = 1 << 10")]
EDITS += [("run.h", "r->unpolled >= POLL_WORK", "r->unpolled >= 1")]
# one instance compiles faster
ONE_INSTANCE = ("instances.c", "#if defined(__x86_64__)\n#define EACH_ISA", "#if 0\n#define EACH_ISA")
# (threads, percent of threads that can't be started) of the runs of plans, in turn
HOW = {"address": ((1, 0), (3, 0), (4, 50), (1, 0)), "thread": ((4, 0), (2, 0), (5, 30), (3, 0))}
WRAPPED = ["-Wl,--wrap=pthread_create,--wrap=pthread_atfork"]  # plans.c can make them fail


class MissingError(Exception):
    """What an attack needs is not on this machine."""


def compiler():
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if not found:
        raise MissingError("needs a C compiler")
    return found.split()


def edited(source, edits):
    """The text of a source with the edits of its name; every edit must find what it replaces."""
    content = source.read_text()
    for name, old, new in edits:
        if name == source.name:
            assert old in content, (name, old)
            content = content.replace(old, new)
    return content


def build(name, all_instances=False):
    """The core and plans.c as a program, with a sanitizer; only what has changed is compiled again."""
    folder = ROOT / "build" / "attack" / f"{name}{'-all' if all_instances else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    common = [*(ROOT / "csrc" / "flags").read_text().split(), *FLAGS, f"-I{folder / 'headers'}"]
    common += [f"-fsanitize={SANITIZERS[name]}", "-Wall", "-Wextra", "-Wno-unused-function"]
    headers = ""
    for path in sorted((ROOT / "csrc").rglob("*")):
        if path.suffix in (".h", ".def"):
            copy, content = folder / "headers" / path.relative_to(ROOT / "csrc"), edited(path, EDITS)
            headers += content
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(content)
    text = (headers + repr((compiler(), common))).encode()
    instances = "*_*.c" if all_instances else "*_base.c"
    sources = [*(ROOT / "csrc").glob("*.c"), *(ROOT / "csrc/instances").glob(instances), HERE / "plans.c"]
    edits = EDITS if all_instances else [*EDITS, ONE_INSTANCE]
    objects, running = [], []
    for source in sorted(sources, key=lambda p: p.parent.name != "instances"):
        content = edited(source, edits)
        key = hashlib.sha256(text + content.encode()).hexdigest()[:16]
        target = folder / f"{source.stem}.{key}.o"
        objects.append(target)
        if target.exists():
            continue
        for old in folder.glob(f"{source.stem}.*.o"):
            old.unlink()
        command = [*compiler(), *common, f"-I{source.parent}", "-x", "c", "-c", "-", "-o", target]
        while len(running) >= (os.cpu_count() or 1):
            _finish(running.pop(0))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write(f'#line 1 "{source}"\n{content}')
        process.stdin.close()
        process.stdin = None
        running.append(process)
    for process in running:
        _finish(process)
    program = folder / "program"
    linked = subprocess.run(
        [*compiler(), *common, *objects, *WRAPPED, "-lm", "-o", program], capture_output=True, text=True
    )
    if linked.returncode:
        no_runtime = re.search("(lib|-l)(asan|tsan|ubsan)", linked.stderr)
        error = MissingError if no_runtime else RuntimeError
        raise error(f"cannot link with {SANITIZERS[name]}: {linked.stderr[-300:]}")
    return program


def campaign(name, minutes, first=0, last=2**40, all_instances=False, processes=None):
    """(plans, failures): case numbers in runs of PLANS, with one thread, several, and several that fail."""
    program = build(name, all_instances)
    processes, until = processes or os.cpu_count() or 1, time.monotonic() + 60 * minutes
    plans, failures, running = 0, [], {}
    while running or (first < last and time.monotonic() < until):
        while len(running) < processes and first < last and time.monotonic() < until:
            threads, shortage = HOW[name][first // PLANS % len(HOW[name])]
            arguments = [str(a) for a in (first, min(PLANS, last - first), threads, shortage)]
            process = subprocess.Popen(
                [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            running[process] = (arguments, time.monotonic())
            first += PLANS
        time.sleep(0.02)
        for process, (arguments, begun) in list(running.items()):
            if process.poll() is None and time.monotonic() - begun < SECONDS:
                continue
            if process.poll() is None:
                process.kill()
            text = process.communicate()[0]
            del running[process]
            if process.returncode:
                failures.append(int(arguments[0]))
                print(
                    text[-6000:],
                    f"{name}: failed ({process.returncode}): {program} {' '.join(arguments)}",
                    flush=True,
                )
                if len(failures) >= 5:
                    first = last
            else:
                plans += int(text.split()[0])
    return plans, failures


def _finish(process):
    errors = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"the compiler fails: {errors[-500:]}")
