"""The command line: `tfqnas COMMAND`, one module a command. Only this package reads flags.

A module defines absl flags and has `main(argv)`; its docstring is its help. `main.py` knows the commands, `command.py`
what they share: flags made from settings, help on them, and errors without a traceback.
"""
