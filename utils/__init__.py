"""The small shared module of the course: digits, training loop, drawing, instant checks.

What a notebook is about stands in the notebook; here is only what would distract from it.
"""
