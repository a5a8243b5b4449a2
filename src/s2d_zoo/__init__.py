"""From a few brush strokes to a validated BioImage Model Zoo model."""
