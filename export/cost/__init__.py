"""Count what graphs cost, op by op, and write the cost sheet of a bundle or a checkpoint."""
