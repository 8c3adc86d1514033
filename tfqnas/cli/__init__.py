"""The command line `tfqnas COMMAND`, with one module for each command. Only this package reads flags.

A module has `FLAGS` and `main()`, and its docstring is its help. `overview.py` lists the commands. `command.py` has the
common parts: it makes flags from settings, prints help, refuses flags without effect, and shows errors without a
traceback. Messages name settings in backquotes, and only `command.py` writes them as flags.
"""
