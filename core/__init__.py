"""The science: configuration, tasks, model, optimiser, training, curvature; knows no result files and no sweeps."""
