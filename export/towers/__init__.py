"""Vision towers and connectors, written as graphs from their weights."""
