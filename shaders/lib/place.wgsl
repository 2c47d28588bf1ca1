// Where rows lie, which of them a workgroup has, and which gamma and beta they have.

// The first element of a row: x in tensors with the strides of x, y in those with the strides of y.
fn begins(row: u32) -> vec2<u32> {
    let row_strides = vec2<u32>(params.row_stride, params.y_row_stride);
    if params.heads == 1u {
        return row * row_strides;
    }
    let n = row + params.first_head;
    let token = n / params.heads;
    // Relative to the first row of the dispatch, which may be inside of a token: this may wrap, the result does not.
    let head = n - token * params.heads - params.first_head;
    return token * row_strides + head * vec2<u32>(params.head_stride, params.y_head_stride);
}

// Rows of a chunk.
struct Chunk {
    first: u32,
    end: u32,
}

// A chunk of `each` rows; the last one of a group is shorter.
fn chunk_of(chunk: u32, each: u32) -> Chunk {
    if params.group_chunks == 0u {
        return Chunk(chunk * each, min(params.rows, (chunk + 1u) * each));
    }
    let group = chunk / params.group_chunks;
    let begin = group * params.group_rows;
    let first = begin + (chunk - group * params.group_chunks) * each;
    return Chunk(first, min(begin + params.group_rows, first + each));
}

// Where gamma and beta of a row begin.
fn columns_of(row: u32) -> u32 {
    if params.group_rows == 0u {
        return 0u;
    }
    return row / params.group_rows * params.cols;
}
