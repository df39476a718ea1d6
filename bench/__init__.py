"""Measurements against peers, side by side in one run on this machine: `python -m bench`.

Figures are ratios of one run; absolute rates belong to the machine that they were taken on.
"""
