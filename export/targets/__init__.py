"""A bundle's graphs once more, in the operators of other engines."""
