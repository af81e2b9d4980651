"""The one extension: every C file with the flags of csrc/flags, Cython for the bindings."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIMITED_API = 0x030B0000  # Python 3.11: one wheel for it and all later ones

SOURCES = sorted(str(p) for p in (*Path("csrc").glob("*.c"), *Path("csrc/instances").glob("*.c")))
HEADERS = sorted(str(p) for p in (*Path("csrc").rglob("*.h"), *Path("csrc").glob("*.def")))
FLAGS = Path("csrc/flags")  # gcc reads the same file as @csrc/flags

core = Extension(
    "bptt_fast._core",
    [*sorted(SOURCES, key=lambda path: "instances" not in path), "bptt_fast/_core.pyx"],
    include_dirs=["csrc"],
    depends=[*HEADERS, str(FLAGS)],
    libraries=["m"],
    define_macros=[("Py_LIMITED_API", hex(LIMITED_API)), ("CYTHON_LIMITED_API", "1")],
    extra_compile_args=[*FLAGS.read_text(encoding="ascii").split(), "-fvisibility=hidden", "-g0"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)


class ParallelBuild(build_ext):
    """Compile the files of the extension side by side, as many as there are processors."""

    def build_extension(self, ext: Extension) -> None:
        compile_files = self.compiler.compile

        def compile_each(sources: list[str], *args: object, **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_files([source], *args, **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_each
        super().build_extension(ext)


class Abi3Wheel(bdist_wheel):
    """Tag the wheel as abi3."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.py_limited_api = "cp311"


setup(
    ext_modules=cythonize([core], language_level="3"),
    cmdclass={"build_ext": ParallelBuild, "bdist_wheel": Abi3Wheel},
)
