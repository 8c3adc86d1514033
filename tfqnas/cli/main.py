"""The program `tfqnas COMMAND`, which runs a command."""

import sys

from tfqnas.cli.overview import COMMANDS, module_of, overview, show, version
from tfqnas.errors import did_you_mean


def main() -> None:
    """The program `tfqnas`."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "-help", "--help", "help"):
        show(overview())
        sys.exit(0 if given else 2)
    if given[0] in ("-v", "-version", "--version", "version"):
        show(f"tfqnas {version()}")
        return
    if given == ["doctor"]:
        from tfqnas import doctor

        sys.exit(doctor.main())
    name = given[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS).replace("_", "-")
        print(f"error: expected a command, received {name}{hint}; tfqnas --help lists them", file=sys.stderr)
        sys.exit(2)
    run(name, f"tfqnas {name}", given[1:])


def run(name: str, program: str | None = None, arguments: list[str] | None = None) -> None:
    """Runs one command.

    Args:
        name: one of `COMMANDS`.
        program: name of the program in messages; by default the path of the running script.
        arguments: flags and words, by default those of the process.
    """
    from tfqnas.cli import command  # imports absl, which `tfqnas --help` does not need

    command.run(module_of(name), program, arguments)
