"""Evaluation: ranks, metrics, baselines, ensembles and calibration."""
