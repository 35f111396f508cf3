"""Results for people: the table in the terminal, and what is shown while a study runs."""

from bitladder.report.table import accuracy_table
from bitladder.report.watch import watching

__all__ = ["accuracy_table", "watching"]
