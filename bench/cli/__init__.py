"""The command line: the words that are typed, and nothing that is heavy.

Heavy libraries load inside the verbs that need them.
"""

# Each module adds its verbs to the application, in the order in which --help shows them.
try:
    from weightcast.bench.cli import run, read, compare, audit, data, methods, new, doctor  # noqa: F401, I001
    from weightcast.bench.cli.app import main
except KeyboardInterrupt:  # Ctrl-C while these load
    raise SystemExit(130) from None

__all__ = ["main"]
