// What a dispatch is about: the twin of `Params` in src/wgpu/plan/params.rs, field by field.
//
// A binding begins at an aligned offset below its argument; `*_start` is the rest, in elements. Rows are counted from
// the first row of the dispatch.
struct Params {
    workgroups: u32,
    rows: u32,
    cols: u32,
    inner: u32,
    // Elements from a row to the next; with heads from a token to the next.
    row_stride: u32,
    // cols * inner
    len: u32,
    // Lanes that share a row.
    team: u32,
    // Rows that a lane takes one after the other.
    steps: u32,
    // Workgroups that share a row.
    slabs: u32,
    // Values of a record: the partial sums of one chunk of rows.
    record: u32,
    dbeta_at: u32,
    dalpha_at: u32,
    dshift_at: u32,
    chunks: u32,
    flags: u32,
    eps: f32,
    x_start: u32,
    dy_start: u32,
    // Of y or dx.
    out_start: u32,
    gamma_start: u32,
    beta_start: u32,
    alpha_start: u32,
    shift_start: u32,
    mean_start: u32,
    rstd_start: u32,
    sums_start: u32,
    dgamma_start: u32,
    dbeta_start: u32,
    dalpha_start: u32,
    dshift_start: u32,
    // That of a row whose variance is 0.
    largest_rstd: f32,
    // A row with a smaller sum of squares has lost digits to underflow.
    least_squares: f32,
    // What is added to gamma; -0 adds nothing.
    gamma_offset: f32,
    // Of the call's x, where x is bound to sum.
    addend_start: u32,
    residual_start: u32,
    dsum_start: u32,
    // Rows of a token; 1 where all rows are equally far apart.
    heads: u32,
    head_stride: u32,
    // Of y and dy.
    y_row_stride: u32,
    y_head_stride: u32,
    // The head that the first row is.
    first_head: u32,
    // Rows that share gamma and beta; 0 if all do.
    group_rows: u32,
    // Chunks that such rows are; 0 if chunks do not end with them.
    group_chunks: u32,
    // Of a fold, with `chunks` records each.
    groups: u32,
    scale_start: u32,
}

const UNBIASED: u32 = 1u;
const HAS_GAMMA: u32 = 2u;
const HAS_BETA: u32 = 4u;
const HAS_MEAN: u32 = 8u;
const HAS_RSTD: u32 = 16u;
const HAS_DX: u32 = 32u;
const HAS_DGAMMA: u32 = 64u;
const HAS_DBETA: u32 = 128u;
const HAS_DALPHA: u32 = 256u;
const HAS_DSHIFT: u32 = 512u;
const ACCUMULATE: u32 = 1024u;
// gamma and beta are f32, whatever x is.
const PARAMETERS_F32: u32 = 2048u;
const HAS_RESIDUAL: u32 = 4096u;
const SUM_HOLDS_ADDEND: u32 = 8192u;
const Y_HOLDS_RESIDUAL: u32 = 16384u;
const HAS_DSUM: u32 = 32768u;
const DX_HOLDS_DSUM: u32 = 65536u;
// y is quantised to i8 if none of the two is set.
const QUANT_F8E4M3: u32 = 262144u;
const QUANT_F8E5M2: u32 = 524288u;
// Each row has a scale of its own, which is an output.
const QUANT_BY_ROW: u32 = 1048576u;
// dalpha and dshift, where dgamma and dbeta are those of a group.
const ACCUMULATE_SCALARS: u32 = 131072u;

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}
