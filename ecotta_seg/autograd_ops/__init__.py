"""Operators that let gradients through frozen layers without keeping what only training needs."""
