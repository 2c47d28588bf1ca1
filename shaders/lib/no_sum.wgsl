// This kernel adds no residual.
fn prepare(workgroup: u32, index: u32) {
}
