"""The event store: one SQLite file with every event of a run, and small pictures of its frames."""
