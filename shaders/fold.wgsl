// The second stage of every backward: the partial sums of chunks become gradients, in a fixed order.

// Columns of a workgroup, and lanes that share the chunks of one.
const COLUMNS: u32 = 32u;
const LANES: u32 = 8u;

var<workgroup> scratch: array<vec4<f32>, 256>;

// The partial sums of dgamma and dbeta at a place of a record.
fn sum_at(at: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if has(HAS_DGAMMA) {
        v.x = sums[at];
    }
    if has(HAS_DBETA) {
        v.y = sums[at + params.dbeta_at];
    }
    return v;
}

fn result(before: f32, total: f32, accumulate: u32) -> f32 {
    return select(total, before + total, has(accumulate));
}

// Positions of a slab at whose ends a column is cut; 0 if each column has one partial sum in a record.
fn piece_before(position: u32) -> u32 {
    if params.slabs == 0u {
        return 0u;
    }
    return position / params.slabs;
}

fn fold_columns(group: u32, first_column: u32, index: u32) {
    let column = first_column + index % COLUMNS;
    var cascade = Cascade();
    if column < params.cols {
        // A column that slabs cut has a partial sum in each of them.
        let records = params.sums_start + group * params.chunks * params.record;
        let first = column + piece_before(column * params.inner);
        let last = column + piece_before((column + 1u) * params.inner - 1u);
        for (var chunk = index / COLUMNS; chunk < params.chunks; chunk += LANES) {
            for (var piece = first; piece <= last; piece++) {
                add_to_cascade(&cascade, sum_at(records + chunk * params.record + piece));
            }
        }
    }
    scratch[index] = cascade_sum(cascade);
    workgroupBarrier();
    if index >= COLUMNS || column >= params.cols {
        return;
    }
    var total = scratch[index];
    for (var lane = 1u; lane < LANES; lane++) {
        total += scratch[index + lane * COLUMNS];
    }
    let at = group * params.cols + column;
    if has(HAS_DGAMMA) {
        dgamma[params.dgamma_start + at] = result(dgamma[params.dgamma_start + at], total.x, ACCUMULATE);
    }
    if has(HAS_DBETA) {
        dbeta[params.dbeta_start + at] = result(dbeta[params.dbeta_start + at], total.y, ACCUMULATE);
    }
}

// The partial sums of all workgroups; `team` of them in each record.
fn fold_scalars(index: u32) {
    var cascade = Cascade();
    for (var i = index; i < params.groups * params.chunks * params.team; i += 256u) {
        let chunk = i / params.team;
        let at = params.sums_start + chunk * params.record + (i - chunk * params.team);
        var v = vec4<f32>();
        if has(HAS_DALPHA) {
            v.x = sums[at + params.dalpha_at];
        }
        if has(HAS_DSHIFT) {
            v.y = sums[at + params.dshift_at];
        }
        add_to_cascade(&cascade, v);
    }
    scratch[index] = cascade_sum(cascade);
    workgroupBarrier();
    if index != 0u {
        return;
    }
    var total = vec4<f32>();
    for (var first = 0u; first < 256u; first += 16u) {
        var part = scratch[first];
        for (var i = first + 1u; i < first + 16u; i++) {
            part += scratch[i];
        }
        total += part;
    }
    if has(HAS_DALPHA) {
        dalpha[params.dalpha_start] = result(dalpha[params.dalpha_start], total.x, ACCUMULATE_SCALARS);
    }
    if has(HAS_DSHIFT) {
        dshift[params.dshift_start] = result(dshift[params.dshift_start], total.y, ACCUMULATE_SCALARS);
    }
}

fn run(workgroup: u32, index: u32) {
    let each = (params.cols + COLUMNS - 1u) / COLUMNS;
    let group = workgroup / each;
    // Behind those of the columns, one workgroup has the sums over everything.
    if group < params.groups && has(HAS_DGAMMA | HAS_DBETA) {
        fold_columns(group, (workgroup - group * each) * COLUMNS, index);
    } else {
        fold_scalars(index);
    }
}
