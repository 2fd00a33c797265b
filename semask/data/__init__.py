"""Files to tensors: images [B, C, H, W] and labels [B, H, W] of class indices, 255 = ignored."""
