"""The one extension: every C file with the flags of csrc/flags, Cython for the bindings."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

LIMITED_API = 0x030B0000  # Python 3.11: one wheel for it and all later ones

SOURCES = sorted(str(p) for p in (*Path("csrc").glob("*.c"), *Path("csrc/instances").glob("*.c")))
HEADERS = sorted(str(p) for p in (*Path("csrc").rglob("*.h"), *Path("csrc").glob("*.def")))
FLAGS = Path("csrc/flags")  # gcc reads the same file as @csrc/flags

core = Extension(
    "bptt_fast._core",
    ["bptt_fast/_core.pyx", *SOURCES],
    include_dirs=["csrc"],
    depends=[*HEADERS, str(FLAGS)],
    libraries=["m"],
    define_macros=[("Py_LIMITED_API", hex(LIMITED_API)), ("CYTHON_LIMITED_API", "1")],
    extra_compile_args=[*FLAGS.read_text(encoding="ascii").split(), "-fvisibility=hidden", "-g0"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)


class Abi3Wheel(bdist_wheel):
    """Tag the wheel as abi3."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.py_limited_api = "cp311"


setup(
    ext_modules=cythonize([core], language_level="3"),
    cmdclass={"bdist_wheel": Abi3Wheel},
)
