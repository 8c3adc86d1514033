"""Scoring: the accuracy of many subnets of one supernet, with nothing computed twice."""
