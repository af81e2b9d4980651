"""Attacks on the package and its core, for as long as one likes: python -m tests.attack --help."""
