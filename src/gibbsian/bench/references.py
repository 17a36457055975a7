from gibbsian.bench.rows import RowKey


def rows():
    return [RowKey("references", "AAA", "exchange", s) for s in (0, 1, 2)]
