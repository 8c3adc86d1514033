"""Where packages are built, since build/ and BUILD are one name on some systems. pyproject.toml says the rest."""

from setuptools import setup

setup(options={"build": {"build_base": ".build"}})
