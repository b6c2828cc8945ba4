"""Events to somebody over a network: kept on disk until they are taken, at least once, in order."""
