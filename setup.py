"""The one extension: every C file with the flags of csrc/flags, Cython for the bindings.

It is built against Python's limited API, except for free-threaded Python, which has none."""

import atexit
import os
import re
import shutil
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from runpy import run_path
from sysconfig import get_config_var
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

try:
    from Cython.Build import cythonize
except ImportError:
    sys.exit('Cython: expected to be installed.  Run pip install "cython>=3.1", or build by pip install .')

LIMITED = not get_config_var("Py_GIL_DISABLED")
WINDOWS, LINUX = sys.platform == "win32", sys.platform == "linux"
NO_COMPILER = """C compiler: expected {0!r}, which was not found.  Install gcc (10 or later) or clang (14 or
later): Debian and Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; Alpine: apk add gcc musl-dev;
macOS: xcode-select --install; Windows: mingw-w64.  The variable CC names another compiler."""

SOURCES = sorted(str(p) for p in (*Path("csrc").glob("*.c"), *Path("csrc/instances").glob("*.c")))
HEADERS = sorted(str(p) for p in (*Path("csrc").rglob("*.h"), *Path("csrc").glob("*.def")))
FLAGS = Path("csrc/flags")  # gcc reads the same file as @csrc/flags
INTERFACE = ("BPTT_INTERFACE", f"{run_path('bptt_fast/interface.py')['interface'](Path('csrc'))}u")
UNWIND = ["-fno-asynchronous-unwind-tables"] * LINUX  # Windows unwinds by them
LIMITED_API = [("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")]  # one wheel for 3.11 and later

BUILD = "build"  # all that is made; elsewhere if the sources are read-only
if not os.access(".", os.W_OK):
    BUILD = tempfile.mkdtemp(prefix="bptt_fast-")
    atexit.register(shutil.rmtree, BUILD, ignore_errors=True)


def package_page() -> str:
    """README.md with links that work outside of the repository."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    text, home = Path("README.md").read_text(encoding="utf-8"), project["urls"]["Repository"]
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{home}/raw/main/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\1{home}/blob/main/", text)


core = Extension(
    "bptt_fast._core",
    [*sorted(SOURCES, key=lambda path: "instances" not in path), "bptt_fast/_core.pyx"],
    include_dirs=["csrc"],
    depends=[*HEADERS, str(FLAGS), "bptt_fast/interface.py"],
    libraries=["m"],
    define_macros=[INTERFACE, *LIMITED_API * LIMITED],
    extra_compile_args=[*FLAGS.read_text(encoding="ascii").split(), "-fvisibility=hidden", "-g0", *UNWIND],
    extra_link_args=["-pthread", *["-static"] * WINDOWS],  # winpthreads comes with no Python
    py_limited_api=LIMITED,
)


class ParallelBuild(build_ext):
    """Compile the files that changed side by side, as many as there are processors."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if WINDOWS and self.compiler is None:
            self.compiler = "mingw32"  # the kernels are in GNU C
        if LINUX and not self.inplace:  # while it runs, setuptools sets it to 0 for builds in place, too
            core.extra_link_args.append("-Wl,--strip-all")  # profilers want the names, users do not

    def build_extension(self, ext: Extension) -> None:
        compile_files, command = self.compiler.compile, self.compiler.compiler_so[0]
        if not shutil.which(command):
            sys.exit(NO_COMPILER.format(command))

        def compile_each(sources: list[str], output_dir: str, **options: Any) -> list[str]:
            def compile_one(source: str) -> str:
                (made,) = self.compiler.object_filenames([source], output_dir=output_dir)
                if self.force or newer_group([source, *ext.depends], made):
                    flags = [*options["extra_postargs"], *["-O1"] * source.endswith("_core.c")]  # as fast
                    compile_files([source], output_dir, **options | {"extra_postargs": flags})
                return made

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(compile_one, sources))

        self.compiler.compile = compile_each
        super().build_extension(ext)

    def get_libraries(self, ext: Extension) -> list[str]:
        return [*ext.libraries, "python3"] if WINDOWS and LIMITED else super().get_libraries(ext)


class Wheel(bdist_wheel):
    """Tag the wheel as abi3, and put in what this build makes, not what an earlier one left."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.py_limited_api = "cp311" if LIMITED else False

    def run(self) -> None:
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()


setup(
    ext_modules=cythonize([core], build_dir=f"{BUILD}/cython", language_level="3"),
    long_description=package_page(),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": ParallelBuild, "bdist_wheel": Wheel},
    options={} if BUILD == "build" else {"build": {"build_base": BUILD}, "egg_info": {"egg_base": BUILD}},
)
