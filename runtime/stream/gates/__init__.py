"""Gates decide whether a frame shows something new."""
