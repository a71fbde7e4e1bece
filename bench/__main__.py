"""`python -m weightcast.bench`: the command line, where its script is not on the path."""

from weightcast.bench.cli import main

if __name__ == "__main__":
    main()
