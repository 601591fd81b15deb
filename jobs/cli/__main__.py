"""`python -m jobs.cli`: the console script where none is installed."""

from jobs.cli import main

main()
