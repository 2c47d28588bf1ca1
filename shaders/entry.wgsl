@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    // A grid of more workgroups than a dimension may have is folded, and its last line may be longer than needed.
    let workgroup = id.y * counts.x + id.x;
    if workgroup < params.workgroups {
        prepare(workgroup, index);
        run(workgroup, index);
    }
}
