"""`python -m gibbsian`, which is what torchrun starts."""

from gibbsian.cli.main import main

main()
