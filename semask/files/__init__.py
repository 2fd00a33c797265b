"""Files of anybody, read within bounds; settings checked against a schema; files written whole or not at all."""
