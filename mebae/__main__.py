"""`python -m mebae` is the `mebae` command."""

from mebae.cli import main

if __name__ == "__main__":
    main()
