"""Images, degradation, prepared folders, and the dataset that training and validation read."""
