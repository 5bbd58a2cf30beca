"""The small shared module of the course: digits, training loop, plotting, sliders, diagrams.

A notebook writes out its own subject; this package holds only what would distract from it.
"""
