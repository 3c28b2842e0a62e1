"""Entry point of the `graph2image` command: as little as possible before what an interrupt could interrupt."""

import sys


def main() -> None:
    """Run the command line; its exit code is 0 (done), 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    try:
        from flows.cli.failures import run

        run("flows.cli.app", "graph2image")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
