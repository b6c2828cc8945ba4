"""What a run saw and decided, kept so that another model can be asked the same again."""
