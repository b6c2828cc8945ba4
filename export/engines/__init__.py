"""Graphs become engines: one compiler a child process, and what it is asked and answers."""
