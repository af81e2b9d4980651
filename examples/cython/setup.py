from Cython.Build import cythonize
from setuptools import Extension, setup

import bptt_fast

setup(ext_modules=cythonize(Extension("watch", ["watch.pyx"], include_dirs=[bptt_fast.get_include()])))
