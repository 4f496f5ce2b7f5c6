"""`python -m cli` is `cascade`."""

from cli import main

main()
