"""What the detector knows."""

KINDS = ("circle", "square", "triangle", "star")
"""In the order of the network's outputs."""
