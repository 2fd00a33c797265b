"""③ Features to a semantic prior and refined features: the contribution of the paper."""
