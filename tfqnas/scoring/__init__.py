"""Scoring: the accuracy of many subnets of one supernet, with shared computation done once."""
