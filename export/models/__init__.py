"""One file per model family; the file's name is transformers' ``model_type``."""
