"""What a person or a schedule calls: settings, command line, Prefect flows, the demo and its report."""

from flows.environment import set_defaults

set_defaults()
