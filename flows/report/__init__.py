"""The report of a model: one self-contained page that a stranger can read."""

from flows.report.report import build_report

__all__ = ["build_report"]
