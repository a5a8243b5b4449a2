"""Pseudo-labels and the networks trained on them."""
