"""③ The sections of a recipe, and reading one."""
