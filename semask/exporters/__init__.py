"""⑤ A model as a file for other engines: one module a format, each with `save`.

    save(request) -> files

writes `request.path`, and what has to lie beside it, into a folder that is its own; `semask.export` checks the file and
moves it to its place. Libraries of the formats are imported when used.
"""
