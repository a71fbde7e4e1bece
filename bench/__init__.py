"""The benchmark: suites, protocol, metrics, runner, result store, statistics, command line."""
