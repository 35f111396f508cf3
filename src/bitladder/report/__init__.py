"""Results for people: tables in the terminal, charts, and what is shown while a study runs."""

from bitladder.report.explanation import explanation_table, write_charts
from bitladder.report.table import (
    answer_table,
    quality_table,
    rung_table,
    seed_table,
    verification_table,
)
from bitladder.report.watch import watching

__all__ = [
    "answer_table",
    "explanation_table",
    "quality_table",
    "rung_table",
    "seed_table",
    "verification_table",
    "watching",
    "write_charts",
]
