"""The command line: `tfqnas COMMAND`, one module a command. Only this package reads flags.

A module has `FLAGS` and `main()`; its docstring is its help. `overview.py` knows the commands. `command.py` has what
they share: flags made from settings, help on them, what is refused, and errors without a traceback. Messages name
settings in backquotes; `command.py` alone writes them as flags.
"""
