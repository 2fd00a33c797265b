"""Model + data set -> scores, with what is to be known to trust them; without a console."""
