"""``edgevlm bench``."""


def command() -> None:
    """Placeholder until the measuring code lands in this same change."""
