"""Visual-token compressors, one file each, as parts of the vision graph."""
