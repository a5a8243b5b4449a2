"""Writing bioimage.io packages."""
