"""Names: of types, classes, files and choices, and how to print them."""
