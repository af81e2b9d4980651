"""setup.py: what it tells setuptools, without compiling anything."""

import os
import re
import runpy
import sys
import sysconfig
import types
from pathlib import Path

import pytest
from support.cases import ROOT

setuptools = pytest.importorskip("setuptools")
build = pytest.importorskip("Cython.Build")


@pytest.fixture
def settings(monkeypatch):
    """settings(): the arguments of setup(); variables of sysconfig may be given."""
    arguments = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
    monkeypatch.setattr(
        build, "cythonize", lambda modules, **given: arguments.update(cythonize=given) or modules
    )

    def read(**variables):
        ask = sysconfig.get_config_var
        monkeypatch.setattr(sysconfig, "get_config_var", lambda name: variables.get(name, ask(name)))
        runpy.run_path("setup.py")
        return types.SimpleNamespace(core=arguments["ext_modules"][0], **arguments)

    return read


def command(found, name):
    from setuptools.dist import Distribution

    return found.cmdclass[name](Distribution({"name": "x", "ext_modules": [found.core]}))


@pytest.mark.parametrize("free_threaded", (0, 1))
def test_limited_api(settings, free_threaded):
    """Free-threaded Python has no limited API: a plain extension, a wheel for one version."""
    found = settings(Py_GIL_DISABLED=free_threaded)
    wheel = command(found, "bdist_wheel")
    wheel.finalize_options()
    assert found.core.py_limited_api == (not free_threaded)
    assert ("Py_LIMITED_API" in dict(found.core.define_macros)) == (not free_threaded)
    assert wheel.py_limited_api == (False if free_threaded else "cp311")


def test_no_stale_files_in_a_wheel(settings, monkeypatch, tmp_path):
    wheel = command(settings(), "bdist_wheel")
    monkeypatch.chdir(tmp_path)
    wheel.ensure_finalized()
    stale = Path(wheel.get_finalized_command("build").build_lib, "bptt_fast", "old.py")
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    left = []
    monkeypatch.setattr(
        setuptools.command.bdist_wheel.bdist_wheel, "run", lambda self: left.append(stale.exists())
    )
    wheel.run()
    assert left == [False]


def test_a_missing_compiler(settings, monkeypatch):
    compile_core = command(settings(), "build_ext")
    compile_core.compiler = types.SimpleNamespace(compile=None, compiler_so=["no-such-compiler", "-O2"])
    with pytest.raises(SystemExit, match=r"(?s)no-such-compiler.*apt install gcc.*variable CC"):
        compile_core.build_extension(compile_core.distribution.ext_modules[0])


def test_a_missing_cython(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "Cython.Build", None)
    with pytest.raises(SystemExit, match='pip install "cython>='):
        settings()


@pytest.mark.parametrize("writable", (True, False))
def test_read_only_sources(settings, monkeypatch, writable):
    """All that a build makes lies in one folder, outside of sources that are read-only."""
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    found = settings()
    folder = Path(found.cythonize["build_dir"]).parent
    assert (folder == Path("build")) == writable
    assert found.options == (
        {} if writable else {"build": {"build_base": str(folder)}, "egg_info": {"egg_base": str(folder)}}
    )
    if not writable:
        assert folder.is_dir() and ROOT not in folder.parents


def test_links_of_the_package_page(settings):
    text, links = settings().long_description, re.compile(r"\]\(([^)]+)\)")
    assert "raw/main/docs/restarts.png" in text
    for link in links.findall(text):
        assert link.startswith(("https://", "#")), link
        path = re.sub(r"^https://github\.com/[^/]+/[^/]+/(blob|raw)/main/|#.*", "", link)
        assert "://" in path or (ROOT / path).exists(), link
