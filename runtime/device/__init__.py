"""Looks at the machine and measures: doctor, bench."""
