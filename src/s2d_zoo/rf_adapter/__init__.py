"""From raw image and strokes to class probabilities: filters, forests, and files that hold them."""
