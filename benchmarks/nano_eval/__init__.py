"""Every score of nano's model card, from a bundle, through the runtime."""
