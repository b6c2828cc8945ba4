"""A model in a process of its own: a hung or crashed inference costs that process, not the run."""
