"""⑤ Logits, prior logits and the label to a scalar."""
