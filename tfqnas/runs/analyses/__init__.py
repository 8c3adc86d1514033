"""The analyses of the paper (OQA, figures 2, 4, 5 and 6) for the user's own supernets.

An analysis is a module that satisfies the protocol `Analysis` of `analysing.py`, which runs all of them.
"""
