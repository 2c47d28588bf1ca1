@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) of_subgroup: u32,
    @builtin(num_subgroups) of_subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    subgroup = of_subgroup;
    subgroups = of_subgroups;
    subgroup_lane = lane;
    // Counted, since an adapter may run a kernel with fewer lanes than its `subgroup_size`.
    subgroup_lanes = subgroupAdd(1u);
    // As in entry.wgsl.
    let workgroup = id.y * counts.x + id.x;
    if workgroup < params.workgroups {
        prepare(workgroup, index);
        run(workgroup, index);
    }
}
