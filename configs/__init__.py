"""One tree of frozen dataclasses, validated on construction, and the presets."""
