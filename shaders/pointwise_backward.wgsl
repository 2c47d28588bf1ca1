// The backward of DyT and Derf: dx, and the partial sums of a chunk of rows. A lane owns the same block of positions of
// every row that it takes, at most 32, so that the sums of a column stay in registers.

var<workgroup> scratch: array<f32, 2048>;
var<workgroup> folded: array<f32, 2048>;

var<private> sum_gamma: Values;
var<private> sum_beta: Values;
var<private> sum_alpha: f32;
var<private> sum_shift: f32;

// dx of the positions of one row, and their part of the sums. `at` is as `begins` has it.
fn add_row(at: vec2<u32>, alpha_value: f32, shift_value: f32, of_gamma: Values, reads_x: bool) {
    let dy = unpack(dy_block(params.dy_start + at.y));
    var x: Values;
    if reads_x {
        x = unpack(x_block(params.x_start + at.x));
    }
    var dx: Values;
    var row_alpha = 0.0;
    var row_shift = 0.0;
    for (var k = 0u; k < WIDTH; k++) {
        sum_beta[k] += dy[k];
        if reads_x {
            let both = curve_both(argument(alpha_value, x[k], shift_value));
            let h = dy[k] * of_gamma[k];
            let g = h * both.y;
            sum_gamma[k] += dy[k] * both.x;
            row_alpha += g * x[k];
            row_shift += g;
            // The slope comes last: where it is subnormal, dx is rounded but once more.
            dx[k] = (alpha_value * h) * both.y;
        }
    }
    sum_alpha += row_alpha;
    sum_shift += row_shift;
    if has(HAS_DX) {
        store_dx(at.x, dx);
    }
}

// Adds up `count` values of a lane and those `apart` from one another behind it, by at most 16 at once.
fn strided_sum(first: u32, apart: u32, count: u32) -> f32 {
    var total = 0.0;
    for (var begin = 0u; begin < count; begin += 16u) {
        var part = 0.0;
        for (var i = begin; i < min(begin + 16u, count); i++) {
            part += scratch[first + i * apart];
        }
        total += part;
    }
    return total;
}

// Adds up the sums of positions over the lines of the workgroup, and over the positions of a column. Every lane takes
// part.
fn store_columns(sums_of_lane: Values, begin: u32, slab: u32, target_at: u32, index: u32) {
    let width = params.team * WIDTH;
    let lines = 256u / params.team;
    workgroupBarrier();
    for (var k = 0u; k < WIDTH; k++) {
        scratch[index * WIDTH + k] = sums_of_lane[k];
    }
    workgroupBarrier();
    let end = min(params.len, begin + width);
    if params.inner == 1u {
        for (var i = index; i < end - begin; i += 256u) {
            sums[target_at + begin + i] = strided_sum(i, width, lines);
        }
        return;
    }
    for (var i = index; i < end - begin; i += 256u) {
        folded[i] = strided_sum(i, width, lines);
    }
    workgroupBarrier();
    // Sixteen lanes for each column, of which this slab may have only a part.
    let last = (end - 1u) / params.inner;
    for (var base = begin / params.inner; base <= last; base += 16u) {
        let column = base + index / 16u;
        var part = 0.0;
        if column <= last {
            let from_position = max(begin, column * params.inner);
            let until = min(end, (column + 1u) * params.inner);
            var batch = 0.0;
            var count = 0u;
            for (var at = from_position + index % 16u; at < until; at += 16u) {
                batch += folded[at - begin];
                count++;
                if count % 16u == 0u {
                    part += batch;
                    batch = 0.0;
                }
            }
            part += batch;
        }
        workgroupBarrier();
        scratch[index] = part;
        workgroupBarrier();
        if column <= last && index % 16u == 0u {
            sums[target_at + column + slab] = strided_sum(index, 1u, 16u);
        }
    }
}

// Adds up a sum of each lane of the workgroup.
fn store_scalar(value: f32, target_at: u32, index: u32) {
    workgroupBarrier();
    scratch[index] = value;
    workgroupBarrier();
    if index == 0u {
        sums[target_at] = strided_sum(0u, 1u, 256u);
    }
}

fn run(workgroup: u32, index: u32) {
    let chunk = workgroup / params.slabs;
    let slab = workgroup - chunk * params.slabs;
    let width = params.team * WIDTH;
    let position = slab * width + (index % params.team) * WIDTH;
    let lines = 256u / params.team;
    let rows = chunk_of(chunk, lines * params.steps);
    let first = rows.first + index / params.team;
    let reads_x = has(HAS_DX | HAS_DGAMMA | HAS_DALPHA | HAS_DSHIFT);
    if position < params.len && first < rows.end {
        let of_gamma = gamma_along(columns_of(first), position);
        let alpha_value = alpha[params.alpha_start];
        let shift_value = shift_value();
        for (var row = first; row < rows.end; row += lines) {
            add_row(begins(row) + position, alpha_value, shift_value, of_gamma, reads_x);
        }
    }
    let record = params.sums_start + chunk * params.record;
    if has(HAS_DGAMMA) {
        store_columns(sum_gamma, slab * width, slab, record, index);
    }
    if has(HAS_DBETA) {
        store_columns(sum_beta, slab * width, slab, record + params.dbeta_at, index);
    }
    if has(HAS_DALPHA) {
        store_scalar(sum_alpha, record + params.dalpha_at + slab, index);
    }
    if has(HAS_DSHIFT) {
        store_scalar(sum_shift, record + params.dshift_at + slab, index);
    }
}
