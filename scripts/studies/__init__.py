"""Studies: a sweep, its analysis, and a page that says what was claimed and what came out."""
