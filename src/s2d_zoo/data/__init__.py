"""Images, strokes, patches and datasets; the only place where axes are moved."""
