"""Post-training quantization: calibration, corrections, and the quantization backends."""
