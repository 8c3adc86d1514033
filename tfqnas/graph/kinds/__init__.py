"""How layers and operations of Keras are read as sites, a file for each family of them.

A file registers functions with `base.reads`. A new one is found by being in this package.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
