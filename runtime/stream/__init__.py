"""From frames to events: sources, gates, hand-over, the pipeline and its accounting."""
