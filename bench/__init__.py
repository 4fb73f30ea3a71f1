"""The benchmark programs: the product against a plain relay on the same libraries, and its parts alone."""
