"""What the paper asks of its supernets (OQA, figures 2, 4, 5 and 6), asked of the user's own.

An analysis is a module that satisfies the protocol `Analysis` of `analysing.py`, which runs them all.
"""
