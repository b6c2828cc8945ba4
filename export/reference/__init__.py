"""Plain numpy forward passes, straight from the source weights.

They share no code with the lowerings, so that a bundle is compared with its model and not with
itself; and they need no torch, so that a certificate can be made anywhere.
"""
