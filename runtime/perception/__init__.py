"""What the encoder's patches tell without a language model: what is unlike, and where it is."""
