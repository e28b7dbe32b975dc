"""Networks: MFAB encoder, STTG and the denoising UNets, composed by `model.TTRD3`."""
