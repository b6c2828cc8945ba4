"""What misses its gates keeps some of its layers in a higher precision."""
