"""Checking bioimage.io packages."""
