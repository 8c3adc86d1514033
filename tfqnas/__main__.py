"""`python -m tfqnas` is the program `tfqnas`."""

from tfqnas.cli.main import main

if __name__ == "__main__":
    main()
