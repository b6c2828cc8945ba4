"""How often a bundle's answers are right, on questions whose answers are known."""
